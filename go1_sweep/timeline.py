"""Where the time of a sweep's slots (its GPUs) went: ``timeline.jsonl``, a line for each time that a trial had one."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from go1_sweep import strict_json
from go1_sweep.paths import SweepPaths, write_atomically

USES = ("training", "importing", "compiling", "building", "checkpointing", "waiting")
"""What a trial spends time on, as far as its processes tell; ``compiling``: making the env with kernels that may have
been missing, or letting another process do that; ``waiting``: for the driver."""

HANDOVER = 1.0
"""So long a trial may have a slot already when the driver hears that the one before is over [s]."""


@dataclass(frozen=True)
class Stint:
    """A trial in a slot, from when it got it until it was over there.

    Attributes:
        driver: that placed it; a sweep that was resumed has several.
        slot: the host, and the index of its GPU; on the CPU the number of the process that drives the trial.
        began: Unix time [s].
        ended: likewise.
        seconds: by use.
    """

    trial: str
    driver: str
    slot: str
    began: float
    ended: float
    seconds: dict[str, float]

    @property
    def held(self) -> float:
        """How long it had the slot [s]."""
        return self.ended - self.began


def _line(stint: Stint) -> str:
    return json.dumps(dataclasses.asdict(stint), allow_nan=False) + "\n"


def added(*parts: dict[str, float]) -> dict[str, float]:
    """The sums by use."""
    return {use: sum(part.get(use, 0.0) for part in parts) for use in dict.fromkeys(itertools.chain(*parts))}


def append(file: Path, stint: Stint) -> None:
    """Add a line; after one that was not written to its end, on a line of its own.

    Raises:
        OSError: it cannot be written.
    """
    line = _line(stint).encode()
    with open(file, "a+b") as lines:
        if lines.tell():
            lines.seek(-1, os.SEEK_END)
            line = line if lines.read() == b"\n" else b"\n" + line
        lines.write(line)


def read(file: Path) -> list[Stint]:
    """All stints that can be read; of a line that was damaged, nothing."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
                fields = strict_json.loads(line)
                numbers = {name: float(fields[name]) for name in ("began", "ended")}
                seconds = {use: float(fields["seconds"].get(use, 0.0)) for use in USES}
                found.append(Stint(**fields | numbers | {"seconds": seconds}))
    return found


def note_running(paths: SweepPaths, stints: Iterable[Stint]) -> None:
    """Write how far those that go on have come: should their driver be killed, they are not lost.

    Raises:
        OSError: it cannot be written.
    """
    text = "".join(map(_line, stints))
    if text:
        write_atomically(paths.running, text)
    else:
        paths.running.unlink(missing_ok=True)


def running(paths: SweepPaths) -> list[Stint]:
    """Those that went on when their driver noted it last, unless their end is known."""
    ended = {(stint.driver, stint.trial, stint.began) for stint in read(paths.timeline)}
    return [stint for stint in read(paths.running) if (stint.driver, stint.trial, stint.began) not in ended]


def of_sweep(paths: SweepPaths) -> list[Stint]:
    """Those of its trials, and of its trainings with fresh seeds; what goes on, too."""
    return [stint for each in (paths, paths.retrained) for stint in (*read(each.timeline), *running(each))]


def by_slot(stints: Iterable[Stint]) -> dict[str, dict[str, float]]:
    """What each slot was held for, from its first trial to its last [s].

    Returns:
        By slot: ``held``, each of ``USES``, ``other`` (what a trial did besides: closing an env, an iteration that was
        not wanted any more, one that a crash lost), and ``idle``, between trials. Where several trials share a GPU,
        each of its shares counts.
    """
    found: dict[str, dict[str, float]] = {}
    for slot, each in lanes(stints):
        held = max(stint.ended for stint in each) - min(stint.began for stint in each)
        busy = sum(stint.held for stint in each)
        uses = {use: sum(stint.seconds[use] for stint in each) for use in USES}
        sums = {"held": held, **uses, "other": busy - sum(uses.values()), "idle": held - busy}
        before = found.get(slot, {})
        found[slot] = {use: round(before.get(use, 0.0) + seconds, 3) for use, seconds in sums.items()}
    return found


def lanes(stints: Iterable[Stint]) -> list[tuple[str, list[Stint]]]:
    """By slot: the stints of one driver, one after the other; those that overlap (they share a GPU) apart."""
    lanes: list[tuple[str, list[Stint]]] = []
    for stint in sorted(stints, key=lambda stint: stint.began):
        for slot, lane in lanes:
            if (slot, lane[-1].driver) == (stint.slot, stint.driver) and lane[-1].ended <= stint.began + HANDOVER:
                lane.append(stint)
                break
        else:
            lanes.append((stint.slot, [stint]))
    return sorted(lanes, key=lambda lane: lane[0])


def in_all(slots: dict[str, dict[str, float]]) -> dict[str, float]:
    """The sums of ``by_slot`` over all slots."""
    return {use: round(sum(each[use] for each in slots.values()), 3) for use in ("held", *USES, "other", "idle")}
