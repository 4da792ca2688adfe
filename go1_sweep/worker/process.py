"""A simulator worker as a child process: its start, its messages, its evidence, its end."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import go1_sweep
from go1_sweep import protocol
from go1_sweep.evidence import evidence
from go1_sweep.patience import is_full
from go1_sweep.worker import leftovers
from go1_sweep.worker.interpreter import NoInterpreter, inherited, interpreter

PACKAGE = Path(go1_sweep.__file__).resolve().parent

POLL_SECONDS = 0.5
"""How often a silent worker is looked after."""


END_SECONDS = 5.0
"""How long a worker may take to end itself when its pipe was closed."""


class WorkerFailed(Exception):
    """The worker died, fell silent, or said what is no message. The text is one line for people."""


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker is.

    Attributes:
        simulator: its name in ``SIMULATORS``.
        python: see ``interpreter``; ``None``: the current one, with what it can import.
        device: ``cpu``, ``cuda:0`` (of the GPUs that this process sees), or ``auto``: what there is.
        threads: CPU threads for torch.
        stall_timeout: how long it may say nothing [s].
        launch: what only this simulator's ``launch`` takes.
        max_trials: after so many, one after the other, a fresh process takes over; ``None``: the simulator says.
        kernel_cache: the folder of compiled kernels; ``None``: the simulator's own.
        retries: fresh processes that a trial or an exam gets after the first one failed.
    """

    simulator: str
    python: str | None
    device: str
    threads: int
    stall_timeout: float
    launch: dict[str, Any] = field(default_factory=dict)
    max_trials: int | None = None
    kernel_cache: str | None = None
    retries: int = 0

    def start(self, log: Path, *, gl: str = "disable") -> WorkerProcess:
        """Start it; see ``WorkerProcess``."""
        return WorkerProcess(self, log, gl=gl)


class WorkerProcess:
    """One worker; it belongs to the process that made it, and dies with it.

    The child leads a session of its own, so that it can be killed with all that it started.
    """

    def __init__(self, spec: WorkerSpec, log: Path, *, gl: str = "disable") -> None:
        """Start the worker.

        Args:
            spec: what it is.
            log: file for all output, appended to; each trial then moves it to its own folder.
            gl: MuJoCo's OpenGL, as in ``worker_environment``.

        Raises:
            WorkerFailed: the interpreter cannot be started.
            OSError: the disk is full.
        """
        self._log = log
        self._scratch = tempfile.TemporaryDirectory(prefix="go1_sweep-", ignore_cleanup_errors=True)
        incoming, child_out = os.pipe()
        child_in, outgoing = os.pipe()
        self._incoming, self._outgoing = incoming, outgoing
        self._buffer = bytearray()
        launch = json.dumps({"draws": gl != "disable", **spec.launch})
        arguments = [spec.simulator, spec.device, launch, str(child_in), str(child_out)]
        what = f"{log} cannot be written"
        try:
            environment = worker_environment(Path(self._scratch.name), spec.python, threads=spec.threads, gl=gl)
            if spec.kernel_cache:
                environment["WARP_CACHE_PATH"] = spec.kernel_cache
            with open(log, "ab") as output:
                program = interpreter(spec.python).executable
                what = f"{program} cannot be started"
                self._process = subprocess.Popen(
                    [program, "-m", "go1_sweep.trial", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(child_in, child_out),
                    env=environment,
                    start_new_session=True,
                )
        except (OSError, NoInterpreter) as error:
            os.close(incoming)
            os.close(outgoing)
            self._scratch.cleanup()
            if is_full(error):
                raise
            raise WorkerFailed(f"{what}: {error.strerror}" if isinstance(error, OSError) else str(error)) from None
        finally:
            os.close(child_in)
            os.close(child_out)

    def log_to(self, log: Path) -> None:
        """The file that evidence is read from, once a trial has moved the output there."""
        self._log = log

    def send(self, message: protocol.Message) -> None:
        """Send a message.

        Raises:
            WorkerFailed: the worker is gone.
        """
        try:
            os.write(self._outgoing, protocol.encode(message))
        except BrokenPipeError:
            raise WorkerFailed(self._how_it_ended()) from None

    def receive(self, timeout: float) -> protocol.Message:
        """The worker's next message.

        Raises:
            WorkerFailed: it died, sent what is no message, or sent nothing for ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            had_ended = self._exit_code() is not None  # something that it started may still hold its pipe
            if self._can_read(min(POLL_SECONDS, deadline - time.monotonic())):
                chunk = os.read(self._incoming, 65536)
                if not chunk:
                    raise WorkerFailed(self._how_it_ended())
                self._buffer += chunk
            elif had_ended:
                raise WorkerFailed(self._how_it_ended())
            elif time.monotonic() >= deadline:
                raise WorkerFailed(f"the simulator worker said nothing for {timeout:g} s")
            if len(self._buffer) > protocol.MAX_LINE:
                raise WorkerFailed("the simulator worker sent an endless line on its message pipe")
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        try:
            message = protocol.decode(line)
        except protocol.ProtocolError as error:
            raise WorkerFailed(f"the simulator worker sent on its message pipe what is {error}") from None
        if isinstance(message, protocol.Hello) and message.version != protocol.VERSION:
            raise WorkerFailed(f"the simulator worker speaks protocol {message.version}, not {protocol.VERSION}")
        return message

    def greeted(self, timeout: float) -> protocol.Hello:
        """What the worker says first.

        Raises:
            WorkerFailed: as in ``receive``, or it began with something else.
        """
        hello = self.receive(timeout)
        if not isinstance(hello, protocol.Hello):
            raise WorkerFailed(f"the simulator worker began with {type(hello).__name__}")
        return hello

    def last_words(self) -> str:
        """The evidence as indented lines that follow a sentence."""
        return "".join(f"\n  {line}" for line in self.evidence())

    def evidence(self) -> list[str]:
        """See ``evidence``."""
        return evidence(self._log)

    def close(self) -> list[str]:
        """End the worker and all that it started; returns when they are gone. May be called twice.

        Returns:
            What does not go, a sentence each: processes, or memory of a GPU.
        """
        if self._outgoing < 0:
            return []
        os.close(self._outgoing)
        os.close(self._incoming)
        self._outgoing = self._incoming = -1
        self._await_end()  # not reaped yet: the number of its group is still its own
        processes = {self._process.pid} | leftovers.in_group(self._process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        escaped = leftovers.with_variable("TMPDIR", self._scratch.name) - processes
        for pid in escaped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        left = leftovers.left_of(processes | escaped)
        self._process.poll()  # no wait: what hangs in a GPU's driver does not end at all
        self._scratch.cleanup()
        return left

    def _can_read(self, timeout: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._incoming, selectors.EVENT_READ)
            return bool(selector.select(max(0.0, timeout)))

    def _exit_code(self) -> int | None:
        """The exit code, negative for a signal, or ``None``; the process is not reaped, ``close`` does that."""
        status = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if status is None:
            return None
        return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status

    def _await_end(self) -> int | None:
        """The exit code; ``None`` if the worker is still there after a while."""
        deadline = time.monotonic() + END_SECONDS
        while self._exit_code() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self._exit_code()

    def _how_it_ended(self) -> str:
        """What became of a worker whose pipe closed."""
        code = self._await_end()
        if code is None:
            return "the simulator worker closed its message pipe"
        return f"the simulator worker {how_it_ended(code)}"


def how_it_ended(code: int) -> str:
    """What an exit code says, negative for a signal: the rest of a sentence about a process."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    return f"was killed by signal {-code} ({name})"


def worker_environment(scratch: Path, python: str | None, *, threads: int, gl: str) -> dict[str, str]:
    """The environment of a child process in the simulator's interpreter.

    Its temporary files go to the scratch folder. Another interpreter gets a staged package alone on its
    path, besides what its script puts there; ours keeps the path that it has.

    Args:
        scratch: a folder that lives as long as the child.
        python: see ``interpreter``.
        threads: CPU threads for torch.
        gl: ``disable`` for training, which draws nothing (mjlab would load EGL, which not every machine
            has); ``egl`` for drawing without a display.

    Raises:
        NoInterpreter: see ``interpreter``.
    """
    environment = inherited(is_ours=python is None) | interpreter(python).sets
    if python is None:
        path = [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]
    else:
        staged = scratch / "path"
        staged.mkdir()
        (staged / PACKAGE.name).symlink_to(PACKAGE)
        path = [str(staged), environment.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    environment["TMPDIR"] = str(scratch)
    environment["OMP_NUM_THREADS"] = str(threads)
    environment["MUJOCO_GL"] = gl
    environment["WANDB_MODE"] = "disabled"
    environment["PYTHONUNBUFFERED"] = "1"
    return environment
