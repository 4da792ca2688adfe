"""The sweep file: its models and its defaults.

``load`` gives a spec whose defaults are all resolved, or one message with the line and the dotted path
of what is wrong: a wrong key or type is found here, what entries mean together in ``spec_rules.py``. What
only a simulator can say (does the task exist, does its configuration have that parameter) is asked of it
before anything starts, in ``sweep/preflight.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_serializer,
)
from pydantic_core import ErrorDetails

from go1_sweep import exam, parameters, spec_rules, yaml_file
from go1_sweep.errors import BadInput, did_you_mean
from go1_sweep.paths import copy_of
from go1_sweep.space import DISTRIBUTIONS, Choice, Dimension, Range, Space
from go1_sweep.spec_values import (
    Baseline,
    Flag,
    Gpus,
    Number,
    Scalar,
    Scalars,
    Whole,
    Word,
    section_or_flag,
    trials_to_a_gpu,
)
from go1_sweep.yaml_file import in_yaml


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ParameterSpec(_Section):
    """How one parameter is drawn: exactly one distribution, and the condition under which it exists."""

    choice: list[Scalar] | None = None
    uniform: list[Number] | None = None
    log_uniform: list[Number] | None = None
    int_uniform: list[Whole] | None = None
    when: dict[str, Scalars] = {}

    def given(self) -> dict[str, list[Any]]:
        """The distributions that are set (a valid spec has one), and their values."""
        return {kind: values for kind in DISTRIBUTIONS if (values := getattr(self, kind)) is not None}

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return {**self.given(), **({"when": self.when} if self.when else {})}


class SearchSpec(_Section):
    """What is searched, and how."""

    trials: Annotated[Whole, Field(ge=1)]
    sampler: Literal["tpe", "random"] = "tpe"
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0  # numpy's generators take no more
    parameters: dict[str, ParameterSpec]
    fixed: dict[str, Scalar] = {}


class BudgetSpec(_Section):
    """What one trial may use: completed PPO updates, environment steps, or seconds of PPO iterations."""

    unit: Literal["iterations", "env_steps", "train_seconds"] = "iterations"
    max: Annotated[Number, Field(gt=0)]


class EarlyStoppingSpec(_Section):
    """When a weak trial ends early; ``grace`` is the fraction of the budget that every trial gets."""

    scheduler: Literal["asha", "none"] = "asha"
    metric: Word = "mean_reward"
    mode: Literal["max", "min"] = "max"
    window: Annotated[Whole, Field(ge=1)] = 20
    grace: Annotated[Number, Field(ge=1e-6)] = 0.1  # these two bounds keep the rungs countable
    reduction_factor: Annotated[Number, Field(ge=1.1)] = 3


class ResourcesSpec(_Section):
    """What one trial holds, how many run side by side (``null``: as many as fit), and what befalls one that breaks.

    Of each trial so many of the newest checkpoints are kept, and the best (``null``: all). Compiled kernels are in
    ``kernel_cache``, which hosts may share (``null``: where the simulator has them). ``price``: of a GPU hour, in any
    currency. Trials go to nodes with an ``accelerator`` alone, as Ray names it (``null``: to all).
    """

    gpus: Gpus = "auto"
    cpus: Annotated[Whole, Field(ge=1)] = 1
    accelerator: Word | None = None
    concurrent: Annotated[Whole, Field(ge=1)] | None = None
    reuse_workers: Flag = True
    stall_timeout: Annotated[Number, Field(gt=0)] = 900
    retries: Annotated[Whole, Field(ge=0)] = 2
    keep_checkpoints: Annotated[Whole, Field(ge=2)] | None = 5
    kernel_cache: Word | None = None
    price: Annotated[Number, Field(ge=0)] | None = None

    @property
    def shares_gpus(self) -> bool:
        """Whether several trials run on one GPU."""
        return self.gpus != "auto" and self.gpus > 0 and trials_to_a_gpu(self.gpus) > 1


class VideoSpec(_Section):
    """The film of the winner: ``length`` steps, of which every ``interval``-th becomes a picture."""

    length: Annotated[Whole, Field(ge=1)] = 500
    interval: Annotated[Whole, Field(ge=1)] = 1


Video = Annotated[VideoSpec | None, BeforeValidator(section_or_flag), PlainSerializer(lambda value: value or False)]


class FinalSpec(_Section):
    """The final stage: the ``finalists`` best by training score, and the baseline, sit the exam in ``envs`` envs.

    With each of ``seeds`` seeds; the winner of that is judged, beside the baseline, with as many others, and is
    filmed and exported. With ``retrain_seeds`` the parameters of both are judged: trained again with so many seeds.
    """

    finalists: Annotated[Whole, Field(ge=1)] = 3
    envs: Annotated[Whole, AfterValidator(exam.check_envs)] = 48
    exam_seconds: Annotated[Number, Field(gt=0)] = exam.SECONDS
    seeds: Annotated[Whole, Field(ge=1)] = 3
    retrain_seeds: Annotated[Whole, Field(ge=0)] = 0
    trajectories: Flag = False
    video: Video = VideoSpec()


class SimulatorSpec(_Section):
    """The Python interpreter that has the simulator; ``null``: the one that runs the sweep.

    A worker that has had ``max_trials_per_worker`` is replaced by a fresh process; ``null``: as the simulator needs it.
    """

    python: Word | None = None
    max_trials_per_worker: Annotated[Whole, Field(ge=1)] | None = None

    @property
    def launch(self) -> dict[str, Any]:
        """What the simulator's ``launch`` takes."""
        return self.model_dump(exclude={"python", "max_trials_per_worker"})


class IsaacLabSpec(SimulatorSpec):
    """Its interpreter (or ``isaaclab.sh``), and its physics: ``auto`` is PhysX where Isaac Sim is installed."""

    physics: Literal["auto", "physx", "newton"] = "auto"


class WandbSpec(_Section):
    """Where W&B's runs go; ``auto`` is online where there is a key. ``null``: as W&B itself is set up.

    The sweep's runs are one ``group`` (``null``: the sweep's name, and an id of this sweep alone).
    """

    project: Word = "go1-sweep"
    mode: Literal["auto", "online", "offline"] = "auto"
    entity: Word | None = None
    group: Word | None = None
    base_url: Word | None = None


class TrackingSpec(_Section):
    """Who else hears of the sweep (``null``: W&B does not)."""

    wandb: WandbSpec | None = None


def simulator_spec(simulator: str, python: str | None, physics: str | None) -> SimulatorSpec:
    """The section of a simulator as flags of the command line give it.

    Raises:
        BadInput: that simulator does not have a choice of physics.
    """
    if simulator == "isaaclab":
        return IsaacLabSpec.model_validate({"python": python, "physics": physics or "auto"})
    if physics is not None:
        raise BadInput(f"--physics is for Isaac Lab, and the simulator is {simulator}")
    return SimulatorSpec(python=python)


class Spec(_Section):
    """A sweep file with every default resolved."""

    name: Word
    task: Word
    simulator: Word = "auto"
    search: SearchSpec
    baseline: Baseline = {}
    """What the baseline changes in the task's defaults, usually nothing; ``None``: no baseline."""
    budget: BudgetSpec
    early_stopping: EarlyStoppingSpec = EarlyStoppingSpec()
    resources: ResourcesSpec = ResourcesSpec()
    final: FinalSpec = FinalSpec()
    isaaclab: IsaacLabSpec = IsaacLabSpec()
    mjlab: SimulatorSpec = SimulatorSpec()
    tracking: TrackingSpec = TrackingSpec()
    storage: Word = "runs"

    @property
    def space(self) -> Space:
        """The search space that ``search.parameters`` describes."""
        return {name: _dimension(name, spec) for name, spec in self.search.parameters.items()}

    @property
    def folder(self) -> Path:
        """The sweep's folder, absolute; of one in an object store, the copy of it here."""
        storage = copy_of(self.storage) if self.is_in_store else Path(self.storage).expanduser().absolute()
        return storage / self.name

    @property
    def is_in_store(self) -> bool:
        """Whether the storage is an object store's."""
        return "://" in self.storage

    def of_simulator(self, simulator: str) -> SimulatorSpec:
        """The section of a simulator."""
        section = getattr(self, simulator, None)
        return section if isinstance(section, SimulatorSpec) else SimulatorSpec()

    def python_of(self, simulator: str) -> str | None:
        """The interpreter that is named for a simulator; ``None``: the current one."""
        return self.of_simulator(simulator).python

    def rungs(self) -> list[int]:
        """The budgets at which trials are compared, rising; none where ``scheduler`` is ``none``.

        Whole numbers in every unit, as Optuna's steps are.

        The last one leaves at least a factor to the end: a stop after it would save too little
        (Li et al., MLSys 2020, with ``grace * max`` as the minimum resource).
        """
        stopping = self.early_stopping
        if stopping.scheduler == "none":
            return []
        # The first times factor^i, up to max / factor; 1e-9 is for a grace of exactly factor^-n.
        count = math.floor(-math.log(stopping.grace) / math.log(stopping.reduction_factor) + 1e-9)
        rungs = [stopping.grace * self.budget.max * stopping.reduction_factor**i for i in range(count)]
        return sorted({whole for rung in rungs if (whole := math.ceil(rung - 1e-6)) < self.budget.max})

    def to_yaml(self) -> str:
        """The spec as a sweep file."""
        return yaml_file.dump(self.model_dump())


def load(path: Path, overrides: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> Spec:
    """Read a sweep file.

    Args:
        path: the file; ``search_spaces/NAME`` that is not in the working folder is looked up among
            the files that come with the package.
        overrides: ``dotted.path=value`` each, the value as it would stand in the file.
        changes: top-level keys set by flags of the command line (``None`` values are left out).

    Raises:
        BadInput: the first thing that is wrong, with file, line and dotted path.
    """
    document = yaml_file.read(find(path))
    document.data.setdefault("name", path.stem)
    for override in overrides:
        _override(document, override)
    for key, value in (changes or {}).items():
        if value is not None:
            document.put((key,), value, f"--{key}")
    try:
        spec = Spec.model_validate(document.data)
        spec_rules.check(spec)
    except ValidationError as error:
        # A key that is missing may be one that is misspelt: that tells more.
        details = min(error.errors(), key=lambda details: details["type"] == "missing")
        raise _told(document, details["loc"], _message(details)) from None
    except spec_rules.BrokenRule as rule:
        raise _told(document, rule.path, str(rule)) from None
    return spec


def find(path: Path) -> Path:
    """The file that is meant: as ``load`` looks it up."""
    shipped = Path(__file__).parent / path
    try:
        is_shipped = path.parts[:1] == ("search_spaces",) and not path.exists() and shipped.exists()
    except OSError:  # reading it fails the same way, with a message
        is_shipped = False
    return shipped if is_shipped else path


def _override(document: yaml_file.Document, override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise BadInput(f"--set takes dotted.path=value, not '{override}'")
    keys = dotted.split(".")
    raw = next((i for i, key in enumerate(keys) if key in ("env", "agent")), None)
    if raw is not None:  # env.<path> and agent.<path> are one key, with dots in it
        keys = [*keys[:raw], ".".join(keys[raw:])]
    try:
        document.put(tuple(keys), yaml_file.scalar(text), "--set")
    except ValueError as error:
        raise BadInput(f"--set {override}: {error}") from None


def _told(document: yaml_file.Document, path: tuple[str | int, ...], message: str) -> BadInput:
    return BadInput(f"{document.where(path)}: {'.'.join(map(str, path))}: {message}")


def _message(details: ErrorDetails) -> str:
    context, path = details.get("ctx", {}), details["loc"]
    match details["type"]:
        case "extra_forbidden":
            return f"unknown key{did_you_mean(str(path[-1]), _known_keys(path[:-1]))}"
        case "missing":
            return "is missing"
        case "model_type" | "dict_type":
            return f"expected a mapping of keys to values, not {in_yaml(details['input'])}"
        case "list_type":
            return f"expected a list, not {in_yaml(details['input'])}"
        case "literal_error":
            return f"expected {context['expected']}, not {in_yaml(details['input'])}"
        case "value_error":
            return str(context["error"])
        case "greater_than":
            return f"must be above {context['gt']:g}, not {in_yaml(details['input'])}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}, not {in_yaml(details['input'])}"
        case "less_than":
            return f"must be below {context['lt']}, not {in_yaml(details['input'])}"
    return details["msg"]


def _known_keys(path: tuple[str | int, ...]) -> list[str]:
    """The keys that the section at the path has."""
    if path[:2] == ("search", "parameters"):
        return list(ParameterSpec.model_fields)
    model: Any = Spec
    for part in path:
        annotation = model.model_fields[part].annotation
        model = next((each for each in get_args(annotation) if each is not type(None)), annotation)
    return list(model.model_fields)


def _dimension(name: str, parameter: ParameterSpec) -> Dimension:
    ((kind, given),) = parameter.given().items()
    values = [parameters.check_value(name, value) for value in given]
    when = {parent: tuple(allowed) for parent, allowed in parameter.when.items()}
    if kind == "choice":
        return Dimension(Choice(tuple(values)), when)
    whole = kind == "int_uniform" or (isinstance(values[0], int) and not parameters.is_raw(name))
    low, high = (float(value) for value in values)
    return Dimension(Range(low, high, log=kind == "log_uniform", whole=whole), when)
