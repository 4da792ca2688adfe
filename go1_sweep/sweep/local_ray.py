"""A Ray of our own on this machine, and how many trials or players it can hold at once."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ray

from go1_sweep.errors import BadInput, UserError, one_line
from go1_sweep.spec import ResourcesSpec, SimulatorSpec
from go1_sweep.spec_values import trials_to_a_gpu
from go1_sweep.sweep.ray_watch import Watch, kill_all
from go1_sweep.worker.process import WorkerSpec

OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""A sweep puts next to nothing into Ray's object store; the default takes 30% of the memory."""


@dataclass(frozen=True)
class Slots:
    """What a trial (or a player of policies) holds, and how many run side by side."""

    count: int
    gpus: float
    cpus: int


@contextlib.contextmanager
def local_ray(scratch: str, then: str, variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """A Ray of our own on this machine, whatever cluster may be running; it obeys who has its token.

    The token is in the scratch folder, for this user alone: Ray's own ``~/.ray/auth_token`` may be read by all. The
    actors' temporary files go there too: some packages leave theirs behind.

    Args:
        scratch: a folder.
        then: the command for a user whose Ray has died.
        variables: of the actors' environment.

    Raises:
        UserError: Ray did not start, or a process without which it does nothing has died. Tune would wait for ever.
    """
    token = Path(scratch, "ray_token")
    with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    os.environ.pop("RAY_AUTH_TOKEN", None)  # it would be taken instead
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            object_store_memory=OBJECT_STORE_BYTES,
            runtime_env={"env_vars": {**(variables or {}), "TMPDIR": scratch}},
        )
    except BaseException as error:
        kill_all(token)
        if isinstance(error, KeyboardInterrupt | SystemExit):  # the latter by Ray's own handler of SIGTERM
            raise KeyboardInterrupt from None
        raise UserError(f"Ray did not start: {one_line(error)} (its logs: /tmp/ray/session_latest/logs)") from error
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put in one of its own
    # What Ray and Tune log of a lost actor names things that are in none of our files; we say it ourselves.
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    watch = Watch(token, then)
    watch.start()
    try:
        yield
    except (KeyboardInterrupt, Exception):
        if not watch.look():  # else that is the reason, whatever came of it
            raise
    finally:
        watch.work_is_over.set()
        try:
            ray.shutdown()
        finally:  # also at a second Ctrl-C
            watch.ray_is_over.set()
            kill_all(token)
    if watch.dead:
        raise UserError(watch.problem())


def slots_for(wanted: ResourcesSpec) -> Slots:
    """How many fit, by what the machine has.

    Raises:
        BadInput: not even one fits.
    """
    total = ray.cluster_resources()
    have_gpus, have_cpus = int(total.get("GPU", 0)), int(total.get("CPU", 0))
    gpus = (1 if have_gpus else 0) if wanted.gpus == "auto" else wanted.gpus
    if gpus > have_gpus:
        raise BadInput(
            f"resources.gpus: each trial wants {gpus:g} GPU, and none was found on this machine; "
            "set it to 0 to train on the CPU (--set resources.gpus=0)"
        )
    if wanted.cpus > have_cpus:
        raise BadInput(f"resources.cpus: each trial wants {wanted.cpus} CPUs, and this machine has {have_cpus}")
    fit = min(have_cpus // wanted.cpus, have_gpus * trials_to_a_gpu(gpus) if gpus else have_cpus)
    return Slots(min(fit, wanted.concurrent or fit), gpus, wanted.cpus)


def worker_for(simulator: str, settings: SimulatorSpec, resources: ResourcesSpec, slots: Slots) -> WorkerSpec:
    """The worker that a slot holds."""
    return WorkerSpec(
        simulator=simulator,
        python=settings.python,
        device="cuda:0" if slots.gpus else "cpu",
        threads=slots.cpus,
        stall_timeout=resources.stall_timeout,
        launch=settings.launch,
        max_trials=settings.max_trials_per_worker,
        kernel_cache=resources.kernel_cache and str(Path(resources.kernel_cache).expanduser().absolute()),
        retries=resources.retries,
    )
