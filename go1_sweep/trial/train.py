"""One trial: builds the environment and the runner, and lets ``runner.learn`` run until the trial is over."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import io
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from rsl_rl.runners import OnPolicyRunner

from go1_sweep import checkpoint, protocol, turn
from go1_sweep.errors import did_you_mean, one_line
from go1_sweep.paths import TrialPaths, drop_leftovers, write_atomically
from go1_sweep.patience import POLL_SECONDS, patiently
from go1_sweep.simulators.base import ConfigError, Simulator, TaskConfig
from go1_sweep.trial import torch_settings
from go1_sweep.trial.checkpoints import PolicyError
from go1_sweep.trial.divergence import Divergence, is_nan
from go1_sweep.trial.kernels import compiled_once, kernel_settings
from go1_sweep.trial.link import Link
from go1_sweep.trial.progress import ScalarWriter, TrialLog
from go1_sweep.trial.publisher import Publisher
from go1_sweep.trial.resume import infos, read_start, resume
from go1_sweep.trial.runner import Runner, runner_of
from go1_sweep.turn import TurnIsOver

ENDLESS = 1_000_000_000
"""Iterations asked of ``runner.learn`` where the budget is not counted in them; the hook ends it."""


class _Over(Exception):
    """Raised out of ``runner.learn`` when the trial is over."""

    def __init__(self, state: str, why: str, *, diverged: bool = False) -> None:
        super().__init__(why)
        self.state, self.why, self.diverged = state, why, diverged


def _stopped() -> _Over:
    return _Over("stopped", "told to stop")


def train(simulator: Simulator, request: protocol.Train, device: str, link: Link) -> None:
    """Run the trial, reporting each iteration; always ends with ``Ended``.

    What was published is complete before ``Ended`` is sent; the environment is closed after it, while
    the other side already looks for the next trial.
    """
    training = _Training(simulator, request, device, link)
    try:
        over = training.run()
        try:
            training.close_logs()
        except OSError as error:
            over = _Over("failed", one_line(error))
        progress = dataclasses.replace(training.progress, score=None) if over.diverged else training.progress
        link.send(protocol.Ended(request.trial, over.state, over.why, progress, over.diverged, training.seconds))
    finally:
        training.close()


class _Training:
    def __init__(self, simulator: Simulator, request: protocol.Train, device: str, link: Link) -> None:
        self._simulator = simulator
        self._request = request
        self._device = device
        self._link = link
        self._paths = TrialPaths(Path(request.folder))
        self._publisher = Publisher(self._paths, request.keep_checkpoints, request.mode, self._pause, request.turn)
        self._rungs = sorted(request.checkpoints_at)
        self._begin = protocol.Progress()
        self._log: TrialLog | None = None
        self._divergence: Divergence | None = None
        self._env = None
        self._runner: Runner | None = None
        self._writer: ScalarWriter | None = None
        self._save_interval = 0
        self._has_answer = True
        """To the last report."""
        self._seconds: dict[str, float] = dict.fromkeys(("building", "compiling", "checkpointing", "waiting"), 0.0)
        self._compiling = contextlib.ExitStack()
        """Left after the first iteration."""

    @property
    def progress(self) -> protocol.Progress:
        return self._log.progress if self._log else self._begin

    @property
    def seconds(self) -> dict[str, float]:
        """Besides training, by use."""
        return {use: round(each, 3) for use, each in self._seconds.items()}

    def run(self) -> _Over:
        """Train until the trial is over; every way out is an ``_Over``."""
        try:
            with contextlib.ExitStack() as self._compiling:
                self._build()
                self._learn()
        except _Over as over:
            return over
        except (PolicyError, TurnIsOver) as error:
            return _Over("refused", str(error))
        except Exception as error:  # whatever a simulator may raise ends this trial, not the sweep
            traceback.print_exc()
            if is_out_of_memory(error):
                return _Over("infeasible", f"out of memory: {one_line(error)}")
            if is_nan(error):
                return _Over("failed", f"diverged: {one_line(error)}", diverged=True)
            return _Over("failed", one_line(error))

    def close_logs(self) -> None:
        """Complete the trial's files."""
        self._publisher.close()  # first: a disk may be too full for the others
        if self._writer is not None:
            self._writer.stop()
        if self._log is not None:
            self._log.close()
        with contextlib.suppress(OSError):  # rsl_rl 3 makes it for the diffs that we leave out
            (self._paths.folder / "git").rmdir()

    def close(self) -> None:
        """Release the environment."""
        env, self._env, self._runner = self._env, None, None
        if env is not None:
            self._simulator.close(env)

    def _build(self) -> None:
        what = {
            "versions": self._simulator.versions(),
            "task": self._request.task,
            "settings": kernel_settings(self._request.parameters),
            "on": device_name(self._device),
        }
        folder = self._simulator.kernel_cache()
        with self._spent("compiling"):
            is_cold = self._compiling.enter_context(compiled_once(folder, what, self._look))
        with self._spent("compiling" if is_cold else "building"):
            self._make()

    def _make(self) -> None:
        request, simulator = self._request, self._simulator
        start = read_start(Path(request.checkpoint)) if request.checkpoint else None
        if start:
            self._begin = start.progress
            if self._begin.used(request.budget_unit) >= request.budget_max:
                raise self._completed()
        self._take_turn()
        drop_leftovers(self._paths.folder)
        torch_settings.configure(deterministic=request.deterministic)
        config = simulator.load_config(simulator.resolve(request.task))
        simulator.apply(config, request.parameters)
        config.set_seed(request.seed)
        self._save_interval = config.agent.save_interval
        resolved = self._resolved(config)
        if not start:
            self._write_config(resolved)
        self._env = simulator.make_env(config, request.seed, self._device)
        self._runner = runner_of(simulator.make_runner(self._env, config, self._paths.folder))
        self._take_turn()  # that took long
        if start:
            resume(simulator, self._runner, config.task_id, start)
            self._write_config(resolved)  # only now: a checkpoint that is refused leaves its run as it was
        patiently(lambda: checkpoint.drop_later(self._paths, self._begin), self._pause)
        self._writer = ScalarWriter(self._paths.folder, self._begin.iterations)
        cut = self._runner.cut_iterations
        self._log = TrialLog(self._paths, request.metric, request.window, self._begin, cut, self._pause)
        self._divergence = Divergence(self._log.kept)

    def _take_turn(self) -> None:
        patiently(lambda: turn.take(self._paths, self._request.turn), self._pause)

    def _resolved(self, config: TaskConfig) -> dict[str, Any]:
        resolved = {
            **dataclasses.asdict(self._request),
            "task_id": config.task_id,
            "simulator": self._simulator.name,
            "versions": self._simulator.versions(),
            "device": self._device,
            "device_name": device_name(self._device),
            "env": config.env,
            "agent": config.agent,
        }
        return plain(resolved)

    def _write_config(self, resolved: dict[str, Any]) -> None:
        text = yaml.safe_dump(resolved, sort_keys=False)
        patiently(lambda: write_atomically(self._paths.config, text), self._pause)

    def _learn(self) -> NoReturn:
        assert self._runner is not None and self._writer is not None
        runner, writer = self._runner, self._writer

        def log_and_report(log: Callable[[], None]) -> None:
            nonlocal began
            seconds = time.monotonic() - began
            stop = self._told_to_stop()
            if stop and not stop.save:
                raise _stopped()
            self._take_turn()
            log()
            self._after_iteration(runner, writer.take(), seconds, is_last=stop is not None)
            began = time.monotonic()

        in_iterations = self._request.budget_unit == "iterations"
        iterations = int(self._request.budget_max) - self.progress.iterations if in_iterations else ENDLESS
        with self._watching():
            began = time.monotonic()
            runner.learn(iterations, writer, log_and_report)
        raise _Over("failed", "runner.learn returned before the budget was used")

    def _watching(self) -> contextlib.AbstractContextManager[None]:
        if not self._request.viewer:
            return contextlib.nullcontext()
        assert self._env is not None
        try:
            return self._simulator.watching(
                self._env,
                in_window=self._request.viewer == "window",
                opened=lambda address: self._link.send(protocol.Viewing(address)),
            )
        except ConfigError as error:
            raise _Over("refused", str(error)) from None

    def _after_iteration(self, runner: Runner, scalars: dict[str, float], seconds: float, *, is_last: bool) -> None:
        assert self._log is not None and self._divergence is not None
        self._compiling.close()
        request = self._request
        env_steps = runner.rsl_rl.cfg["num_steps_per_env"] * runner.rsl_rl.env.num_envs
        broken = self._log.add(scalars, seconds, env_steps, runner.kl())
        iteration = self.progress.iterations
        if problem := self._divergence.check(self._log.row, broken):
            raise _Over("failed", f"diverged in iteration {iteration}: {problem}", diverged=True)
        if request.metric in broken:
            raise _Over("failed", f"{request.metric} was not finite in iteration {iteration}")
        if why := self._why_no_score(runner):
            raise _Over("failed", why)
        used = self.progress.used(request.budget_unit)
        is_at_rung = self._reaches_rung(used)
        must_be_there = is_at_rung or used >= request.budget_max or is_last
        with self._spent("checkpointing"):
            self._publisher.look()
            if must_be_there or iteration % self._save_interval == 0:
                self._publish(runner.rsl_rl)
            if must_be_there:  # before anybody hears that the trial has come so far, and ends it
                self._publisher.finish()
        memory = gpu_memory(self._device)
        self._link.send(protocol.Report(request.trial, self.progress, self._log.row, memory, self.seconds))
        self._has_answer = False
        if used >= request.budget_max:
            raise self._completed()
        # At a rung half of the trials end, or more, and an iteration costs more than the answer.
        if is_last or (is_at_rung and self._told_to_stop()):
            raise _stopped()

    @contextlib.contextmanager
    def _spent(self, use: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[use] += time.monotonic() - began

    def _completed(self) -> _Over:
        if self._request.metric and self.progress.score is None:
            return _Over("failed", f"no score: '{self._request.metric}' was never reported in the whole budget")
        return _Over("completed", "used its whole budget")

    def _told_to_stop(self) -> protocol.Stop | None:
        """Wait until the last report was taken, and look whether the trial shall end."""
        with self._spent("waiting"):
            message = None if self._has_answer else self._link.receive()
        self._has_answer = True
        if message in (None, protocol.Continue(self._request.trial)):
            message = self._link.waiting()
        if message is None or isinstance(message, protocol.Stop):
            return message
        raise protocol.ProtocolError(f"expected Continue or Stop, not {message}")

    def _why_no_score(self, runner: Runner) -> str:
        """That the metric would have been logged by now, if it ever will be: each env has ended an episode."""
        assert self._log is not None
        metric, row = self._request.metric, self._log.row
        is_late = self.progress.iterations > self._begin.iterations + runner.cut_iterations
        # Without a time-out, which not every task has, a good robot ends none.
        if not metric or self.progress.score is not None or not is_late or "mean_episode_length" not in row:
            return ""
        return f"no score: each env has ended an episode, and '{metric}' is not logged{did_you_mean(metric, row)}"

    def _reaches_rung(self, used: float) -> bool:
        reached = [budget for budget in self._rungs if used >= budget]
        self._rungs = self._rungs[len(reached) :]
        return bool(reached)

    def _publish(self, runner: OnPolicyRunner) -> None:
        index = runner.current_learning_iteration
        # rsl_rl goes on at the index in the file: the number of completed updates repeats none of them.
        runner.current_learning_iteration = self.progress.iterations
        content = io.BytesIO()
        try:
            self._simulator.save(runner, content, infos(self._simulator, runner, self.progress))
        finally:
            runner.current_learning_iteration = index
        self._publisher.publish(content.getbuffer(), self.progress)

    def _pause(self) -> None:
        """The disk is full: say so, and look whether the trial shall end."""
        self._link.send(protocol.Waiting(self._request.trial))
        time.sleep(POLL_SECONDS)
        if isinstance(self._link.waiting(), protocol.Stop):
            raise _Over("stopped", "told to stop while the disk was full")

    def _look(self) -> None:
        """Somebody else compiles kernels: look whether the trial shall end."""
        if isinstance(self._link.waiting(), protocol.Stop):
            raise _stopped()


def device_name(device: str) -> str:
    """The name of the device, for people.

    Raises:
        RuntimeError: a GPU was assigned, and torch cannot use it.
    """
    return "CPU" if device == "cpu" else torch.cuda.get_device_name(device)


def gpu_memory(device: str) -> list[int]:
    """In use on the GPU, by whomever, and in all [bytes]; empty for the CPU."""
    if device == "cpu":
        return []
    free, total = torch.cuda.mem_get_info(device)
    return [total - free, total]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that host or GPU memory did not suffice (torch, Warp, CUDA)."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    signs = ("out of memory", "failed to allocate", "alloc_failed")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def plain(value: Any) -> Any:
    """The value as nested dicts, lists and scalars, for ``yaml.safe_dump``; callables by their name."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str):  # Isaac Lab 3 has kinds of its own, which YAML does not know
        return str.__str__(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: plain(getattr(value, name)) for name in names if hasattr(value, name)}  # Isaac Lab deletes some
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    return repr(value)
