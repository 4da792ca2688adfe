"""The worker process: ``python -m go1_sweep.trial SIMULATOR DEVICE LAUNCH IN_FD OUT_FD``, started by an actor."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

from go1_sweep import protocol, simulators
from go1_sweep.errors import one_line
from go1_sweep.paths import TrialPaths
from go1_sweep.trial.link import Link, guard


class _Heedless:
    """A text file whose words are lost, and no more than that, while the disk is full."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write the text if there is room."""
        with contextlib.suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def main(arguments: list[str]) -> None:
    """Serve until the other side closes its pipe; the trial in progress ends with the process."""
    name, wanted, launch, incoming, outgoing = arguments
    guard(int(incoming), int(outgoing))
    faulthandler.enable()
    sys.stdout, sys.stderr = _Heedless(sys.stdout), _Heedless(sys.stderr)
    link = Link(int(incoming), int(outgoing))
    _launch(name, wanted, json.loads(launch))
    simulator = simulators.load(name)
    gc.freeze()  # a million objects that stay: each end of a trial would look through them
    device = _device(wanted)
    link.send(protocol.Hello(protocol.VERSION, simulator.versions(), device, simulator.max_trials))
    while True:
        message = link.receive()
        match message:
            case protocol.Check():
                link.send(_check(simulator, message))
            case protocol.Inspect():
                link.send(_inspect(Path(message.checkpoint)))
            case protocol.Train():
                from go1_sweep.trial.train import gpu_memory, train

                log_to(TrialPaths(Path(message.folder)).worker_log)
                link.send(protocol.Started(message.trial, gpu_memory(device), _memory()))
                train(simulator, message, device, link)
                _free_memory()
            case protocol.Evaluate() | protocol.Film() | protocol.Export() | protocol.View():
                link.send(_do(simulator, message, device, link))
                _free_memory()
            case protocol.Stop() | protocol.Continue():
                pass  # crossed with the Ended of the trial that it is about
            case _:
                raise protocol.ProtocolError(f"not for a worker: {message}")


def _launch(name: str, device: str, options: dict[str, Any]) -> None:
    """Start what the simulator rests on; where it cannot run here, the process ends with the reason as last words."""
    from go1_sweep.simulators.entries import ConfigError

    try:
        simulators.launch(name, device, **options)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    faulthandler.disable()  # Isaac Sim's launcher took over SIGSEGV, and would hang in it
    faulthandler.enable()


def _free_memory() -> None:
    """Free what a job that is over held: only now nobody refers to its env and its runner, but for one another."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _memory() -> int:
    """What this process holds [bytes]."""
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


def log_to(path: Path) -> None:
    """Send stdout and stderr, those of C code included, to the end of the file."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _device(wanted: str) -> str:
    """The device itself; ``auto`` is the first GPU that torch can use, or else the CPU."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _check(simulator: simulators.Simulator, message: protocol.Check) -> protocol.Checked:
    from go1_sweep.simulators.base import ConfigError

    try:
        task_id = simulator.resolve(message.task)
    except ConfigError as error:
        return protocol.Checked("", "", str(error), [], {})
    errors = []
    for setting in message.settings:
        try:
            simulator.apply(simulator.load_config(task_id), setting)
            errors.append("")
        except ConfigError as error:
            errors.append(str(error))
    config = simulator.load_config(task_id)
    return protocol.Checked(task_id, config.agent.experiment_name, "", errors, simulator.parameters(config))


def _inspect(checkpoint: Path) -> protocol.Inspected:
    from go1_sweep.trial.checkpoints import PolicyError
    from go1_sweep.trial.resume import read_start

    try:
        return protocol.Inspected(read_start(checkpoint).progress, "")
    except PolicyError as error:
        return protocol.Inspected(protocol.Progress(), str(error))


def _do(simulator: simulators.Simulator, job: protocol.Job, device: str, link: Link) -> protocol.Answer:
    from go1_sweep.simulators.base import ConfigError
    from go1_sweep.trial.checkpoints import PolicyError

    try:
        match job:
            case protocol.Evaluate():
                from go1_sweep.trial.evaluate import evaluate

                return evaluate(simulator, job, device, link.pulse)
            case protocol.Film():
                from go1_sweep.trial.video import film

                film(simulator, job, device, link.pulse)
            case protocol.Export():
                from go1_sweep.trial.export import export

                export(simulator, job, device)
            case protocol.View():
                from go1_sweep.trial.view import view

                view(simulator, job, device, lambda address: link.send(protocol.Viewing(address)))
    except (ConfigError, PolicyError) as error:
        return protocol.Refused(str(error), is_bad_input=True)
    except Exception as error:  # whatever a simulator may raise; the worker stays for the next job
        traceback.print_exc()
        return protocol.Refused(one_line(error))
    return protocol.Finished()


if __name__ == "__main__":
    main(sys.argv[1:])
