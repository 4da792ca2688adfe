"""How many trials or players of policies a Ray cluster can hold at once, and what each of them holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray

from go1_sweep.errors import BadInput
from go1_sweep.spec import ResourcesSpec, SimulatorSpec
from go1_sweep.spec_values import trials_to_a_gpu
from go1_sweep.worker.process import WorkerSpec

LOOK_SECONDS = 5.0
"""How often it is counted what a cluster has: nodes come and go."""


@dataclass(frozen=True)
class Slots:
    """What a trial (or a player of policies) holds, and how many run side by side."""

    count: int
    gpus: float
    cpus: int


def slots_for(wanted: ResourcesSpec) -> Slots:
    """How many fit, by what each node has.

    Raises:
        BadInput: not even one fits.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    have_gpus, have_cpus = (int(max(node.get(kind, 0) for node in nodes)) for kind in ("GPU", "CPU"))
    gpus = (1 if have_gpus else 0) if wanted.gpus == "auto" else wanted.gpus
    where = "this machine" if len(nodes) == 1 else "any node"
    if gpus > have_gpus:
        raise BadInput(
            f"resources.gpus: each trial wants {gpus:g} GPU, and none was found on {where}; "
            "set it to 0 to train on the CPU (--set resources.gpus=0)"
        )
    if wanted.cpus > have_cpus:
        most = f"{where} has {have_cpus}" if len(nodes) == 1 else f"no node has more than {have_cpus}"
        raise BadInput(f"resources.cpus: each trial wants {wanted.cpus} CPUs, and {most}")
    fit = sum(_fit(node, gpus, wanted.cpus) for node in nodes)
    return Slots(min(fit, wanted.concurrent or fit), gpus, wanted.cpus)


def _fit(node: dict[str, float], gpus: float, cpus: int) -> int:
    have_gpus, have_cpus = (int(node.get(kind, 0)) for kind in ("GPU", "CPU"))
    return min(have_cpus // cpus, have_gpus * trials_to_a_gpu(gpus) if gpus else have_cpus)


def counting(wanted: ResourcesSpec) -> Callable[[], int]:
    """What tells how many fit now: nodes that joined count, those that left do not."""
    counted, count = -LOOK_SECONDS, 0

    def now() -> int:
        nonlocal counted, count
        if time.monotonic() > counted + LOOK_SECONDS:
            try:
                count = slots_for(wanted).count
            except BadInput:  # none is left, for a while perhaps
                count = 0
            counted = time.monotonic()
        return count

    return now


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
