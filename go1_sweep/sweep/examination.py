"""Lets policies sit the exam, all slots side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from go1_sweep import protocol
from go1_sweep.errors import BadInput, UserError
from go1_sweep.evaluation import Evaluation, evaluation_of, load
from go1_sweep.finalists import Candidate
from go1_sweep.paths import TrialPaths
from go1_sweep.patience import raise_if_full
from go1_sweep.sweep.players import Players
from go1_sweep.terminal import Terminal
from go1_sweep.wording import title


@dataclass
class Examination:
    """The exam of some policies; whoever asks names them by their places among the candidates.

    Attributes:
        candidates: who may sit it.
        num_envs: of each sitting, one for each seed.
        seconds: that it lasts.
        players: where it is sat.
        terminal: hears of each result.
        is_of_run: whether the results, and every step where ``keeps_steps``, are kept beside the checkpoints.
        versions: of what the exam rests on here; ``None``: not known.
        keeps_steps: see there.

    What a sweep has kept is taken where it is what would come of it now: each policy's by itself in the sweep that
    goes on, else all or none, since it may have been made elsewhere.
    """

    candidates: Sequence[Candidate]
    num_envs: int
    seconds: float
    players: Players
    terminal: Terminal
    is_of_run: bool
    versions: dict[str, str] | None
    keeps_steps: bool
    _done: dict[int, Evaluation] = field(default_factory=dict)

    def sit(self, purpose: str, places: Sequence[int], seeds: Sequence[int]) -> dict[int, Evaluation]:
        """The results by place, of at least one; those of whom cannot be played are missing.

        Args:
            purpose: in a word, for people.
            places: of those who sit it.
            seeds: of the envs.

        Raises:
            BadInput: none could be played, and the first one's checkpoint is at fault.
            UserError: none could be played.
            OSError: a result cannot be kept, or there is no room for the steps of an exam.
        """
        done = self._kept(places, seeds)
        if done:
            self.terminal.note("What the sweep itself has judged is taken")
            for each in done.values():
                self.terminal.examined(each)
            if len(done) == len(places):
                return done
        places = [place for place in places if place not in done]
        self.terminal.examining(purpose, len(places), self.num_envs, len(seeds))
        answers: dict[int, dict[int, protocol.Evaluated]] = {place: {} for place in places}
        refused: dict[int, protocol.Refused] = {}
        tasks = [(place, seed) for place in places for seed in seeds]
        jobs: list[protocol.Job] = [self._job(self.candidates[place], seed) for place, seed in tasks]
        for task, answer in self.players.play(jobs):
            place, seed = tasks[task]
            if isinstance(answer, protocol.Evaluated):
                answers[place][seed] = answer
            elif isinstance(answer, protocol.Refused) and place not in refused:
                raise_if_full(self.candidates[place].file.parent)  # which is no fault of the policy's
                refused[place] = answer
                if len(places) > 1:  # else it is the error
                    who = self.candidates[place]
                    self.terminal.note(f"{title(who.trial, who.file.name)} cannot be played: {answer.why}")
            if len(answers[place]) == len(seeds):
                done[place] = self._result(place, {seed: answers[place][seed] for seed in seeds})
        if not done:
            first = next(iter(refused.values()))
            raise BadInput(first.why) if first.is_bad_input else UserError(f"no policy could be played: {first.why}")
        return dict(sorted(done.items()))

    def _job(self, candidate: Candidate, seed: int) -> protocol.Evaluate:
        path = TrialPaths(candidate.file.parent).trajectories(candidate.file.stem, seed)
        steps = str(path) if self.is_of_run and self.keeps_steps else ""
        return protocol.Evaluate(candidate.policy, self.num_envs, seed, 0, steps, self.seconds)

    def _result(self, place: int, answers: dict[int, protocol.Evaluated]) -> Evaluation:
        who = self.candidates[place]
        result = evaluation_of(who.trial, who.file.name, who.sha256, answers, who.roles, is_exam=True)
        self.terminal.examined(result)
        before = self._done.get(place)
        episodes = {**before.episodes, **result.episodes} if before else result.episodes
        self._done[place] = dataclasses.replace(result, episodes=episodes)
        if self.is_of_run and who.evaluation:
            self._done[place].save(who.evaluation)
        return result

    def _kept(self, places: Sequence[int], seeds: Sequence[int]) -> dict[int, Evaluation]:
        """What the sweep kept of them; see above."""
        found = {place: kept for place in places if (kept := self._kept_of(self.candidates[place], seeds))}
        if self.is_of_run:
            self._done |= found
        elif len(found) < len(places) or len({str(each.versions) for each in found.values()}) > 1:
            return {}
        return {place: each.of_seeds(seeds) for place, each in found.items()}

    def _kept_of(self, who: Candidate, seeds: Sequence[int]) -> Evaluation | None:
        """All that was kept of a policy, unless something of it would come out differently now."""
        kept = load(who.evaluation) if who.evaluation else None
        if kept is None or not kept.is_exam or kept.sha256 != who.sha256:
            return None
        if any(len(kept.episodes.get(seed, [])) != self.num_envs for seed in seeds):
            return None
        if abs(kept.max_length * kept.step_seconds - self.seconds) > kept.step_seconds:
            return None
        if any(steps and not Path(steps).exists() for steps in (self._job(who, seed).trajectories for seed in seeds)):
            return None
        return kept if self.versions in (None, kept.versions) else None
