"""How many trials or players of policies a Ray cluster can hold at once, and what each of them holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray

from go1_sweep.errors import BadInput
from go1_sweep.spec import ResourcesSpec, SimulatorSpec, Spec
from go1_sweep.spec_values import trials_to_a_gpu
from go1_sweep.worker.process import WorkerSpec

ACCELERATOR = "accelerator_type:"
"""What the name of a resource begins with that Ray gives a node for the kind of its GPUs."""
LOOK_SECONDS = 5.0
"""How often it is counted what a cluster has: nodes come and go."""


@dataclass(frozen=True)
class Slots:
    """What a trial (or a player of policies) holds, and how many run side by side.

    Attributes:
        accelerator: the kind of GPU that its node has; ``None``: any.
    """

    count: int
    gpus: float
    cpus: int
    accelerator: str | None = None

    @property
    def place(self) -> dict[str, float]:
        """Of Ray's resources those that nodes of the kind alone have: as little as it counts."""
        return {ACCELERATOR + self.accelerator: 1e-3} if self.accelerator else {}

    def fits(self, node: dict[str, float]) -> bool:
        """Whether a node with such resources may get trials."""
        wanted = {"GPU": self.gpus, "CPU": self.cpus, **self.place}
        return all(node.get(kind, 0) >= amount for kind, amount in wanted.items())


def slots_for(wanted: ResourcesSpec) -> Slots:
    """How many fit, by what each node has.

    Raises:
        BadInput: not even one fits.
    """
    nodes = _nodes()
    if kind := wanted.accelerator:
        found = ", ".join(sorted(_kinds(nodes))) or "none"
        nodes = [node for node in nodes if kind in _kinds([node])]
        if not nodes:
            raise BadInput(f"resources.accelerator: no node has a GPU that Ray calls '{kind}'; it found {found}")
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
    return Slots(min(fit, wanted.concurrent or fit), gpus, wanted.cpus, wanted.accelerator)


def mixed_gpus(spec: Spec, slots: Slots) -> list[str]:
    """What a budget in seconds means where trials may get GPUs of several kinds; nothing where that is not so."""
    kinds = sorted(_kinds([node for node in _nodes() if slots.fits(node)])) if slots.gpus else []
    if spec.budget.unit != "train_seconds" or len(kinds) < 2:
        return []
    return [
        f"budget.unit: trials get GPUs of several kinds ({', '.join(kinds)}), and a second of training is not as much "
        "on one as on another: trials on the slower ones are stopped, or lose, for that. Count in iterations or "
        f"env_steps, or keep to one kind (resources.accelerator: {kinds[0]})"
    ]


def _nodes() -> list[dict[str, float]]:
    """What each node has that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _kinds(nodes: list[dict[str, float]]) -> set[str]:
    return {name.removeprefix(ACCELERATOR) for node in nodes for name in node if name.startswith(ACCELERATOR)}


def _fit(node: dict[str, float], gpus: float, cpus: int) -> int:
    have_gpus, have_cpus = (int(node.get(kind, 0)) for kind in ("GPU", "CPU"))
    return min(have_cpus // cpus, have_gpus * trials_to_a_gpu(gpus) if gpus else have_cpus)


def counting(wanted: ResourcesSpec, say: Callable[[str], None]) -> Callable[[], int]:
    """What tells how many fit now: nodes that joined count, those that left do not; ``say``: that none is left."""
    counted, count = -LOOK_SECONDS, 0

    def now() -> int:
        nonlocal counted, count
        if time.monotonic() > counted + LOOK_SECONDS:
            had = count
            try:
                count = slots_for(wanted).count
            except BadInput as error:  # for a while perhaps
                count = 0
                if had:
                    say(f"No node is left for trials, they wait for one ({error})")
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
