"""What of Omniverse and of Isaac Sim's own modules does something: settings, timeline, stage, files, pictures."""

from __future__ import annotations

import enum
import io
import itertools
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch

from isaacsim.app import SETTINGS
from isaacsim.stand_ins import CONTENTS, StandIn

APP: Any = None
WORLD: Any = None
CLOSES_AFTER = int(os.environ.get("GO1_SWEEP_STUB_KIT_CLOSES_AFTER", "0"))


class TimelineEventType(enum.IntEnum):
    """Events of the timeline that somebody waits for."""

    PLAY = 0
    STOP = 2


class Timeline:
    """``omni.timeline``: tells assets and sensors to initialize themselves when the simulation starts."""

    def __init__(self) -> None:
        self.playing = False
        self._waiting: dict[int, tuple[int, Callable[[Any], None]]] = {}
        self._keys = itertools.count()

    def get_timeline_event_stream(self) -> Timeline:
        return self

    def create_subscription_to_pop_by_type(
        self, event: int, call: Callable[[Any], None], order: int = 0
    ) -> SimpleNamespace:
        key = next(self._keys)
        self._waiting[key] = (event, call)
        return SimpleNamespace(unsubscribe=lambda: self._waiting.pop(key, None))

    def play(self) -> None:
        self.playing = True
        for event, call in list(self._waiting.values()):
            if event == TimelineEventType.PLAY:
                call(None)

    def stop(self) -> None:
        self.playing = False

    def is_playing(self) -> bool:
        return self.playing

    def is_stopped(self) -> bool:
        return not self.playing


class Stage(StandIn):
    """A stage that remembers whether an env was built on it."""

    occupied = False

    @classmethod
    def CreateInMemory(cls) -> Stage:  # noqa: N802
        return cls()


class StageCache:
    """``pxr.UsdUtils``: tells stages apart."""

    @staticmethod
    def Get() -> type[StageCache]:  # noqa: N802
        return StageCache

    @staticmethod
    def GetId(stage: Stage) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(ToLongInt=lambda: id(stage))


class UsdContext:
    """``omni.usd``'s one context."""

    def __init__(self) -> None:
        self.stage = Stage()

    def get_stage(self) -> Stage:
        return self.stage

    def new_stage(self) -> bool:
        self.stage = Stage()
        return True


class SimulationContext:
    """Isaac Sim's own, the base class of Isaac Lab's: a singleton that steps the world."""

    _instance: ClassVar[SimulationContext | None] = None
    _steps: ClassVar[int] = 0

    def __new__(cls, *args: object, **kwargs: object) -> SimulationContext:
        if SimulationContext._instance is not None:
            raise RuntimeError("a simulation context already exists")
        SimulationContext._instance = super().__new__(cls)
        return SimulationContext._instance

    def __init__(self, physics_dt: float, rendering_dt: float, stage: Stage, **_: object) -> None:
        self._settings = SETTINGS
        self._app = APP
        self.app = APP
        self.stage = stage
        self.backend = "torch"
        self.physics_sim_view = StandIn()
        self._physics_dt = physics_dt
        self._steps_of_env = round(rendering_dt / physics_dt)
        TIMELINE.stop()

    @classmethod
    def instance(cls) -> SimulationContext | None:
        return SimulationContext._instance

    @classmethod
    def clear_instance(cls) -> None:
        SimulationContext._instance = None
        TIMELINE.stop()

    def clear_all_callbacks(self) -> None: ...

    def get_physics_dt(self) -> float:
        return self._physics_dt

    def is_playing(self) -> bool:
        return TIMELINE.playing

    def is_stopped(self) -> bool:
        return not TIMELINE.playing

    def reset(self, soft: bool = False) -> None:
        TIMELINE.play()

    def stop(self) -> None:
        TIMELINE.stop()

    def step(self, render: bool = True) -> None:
        WORLD.step(self._physics_dt)
        SimulationContext._steps += 1
        if CLOSES_AFTER and SimulationContext._steps >= CLOSES_AFTER * self._steps_of_env:
            APP.close()


class SimulationManager:
    """Where assets and sensors get the world from."""

    device = "cpu"

    @classmethod
    def set_physics_sim_device(cls, device: str) -> None:
        cls.device = device

    @classmethod
    def get_physics_sim_device(cls) -> str:
        return cls.device

    @staticmethod
    def get_backend() -> str:
        return "torch"

    @staticmethod
    def get_physics_sim_view() -> Any:
        return WORLD

    @staticmethod
    def assets_loading() -> bool:
        return False

    register_callback = staticmethod(lambda *_, **__: None)
    deregister_callback = staticmethod(lambda *_: None)


class GridCloner:
    """Isaac Sim's cloner: nothing to clone; ``TerrainImporter`` knows where envs stand."""

    def __init__(self, spacing: float, stage: Stage) -> None: ...

    def define_base_env(self, path: str) -> None: ...

    def generate_paths(self, root: str, number: int) -> list[str]:
        return [f"{root}_{index}" for index in range(number)]

    def clone(self, prim_paths: list[str], **_: object) -> list[tuple[float, float, float]]:
        return [(0.0, 0.0, 0.0)] * len(prim_paths)

    def replicate_physics(self, **_: object) -> None: ...

    def filter_collisions(self, *_: object, **__: object) -> None: ...


def read_file(path: str) -> tuple[int, int, bytes]:
    """``omni.client``: the one file that the Go1 tasks read is the net of its motors; here a PD law in its place."""
    assert path.endswith("unitree_go1.pt"), path
    net = torch.nn.Linear(6, 1, bias=False)
    with torch.no_grad():
        net.weight[:] = torch.tensor([[-25.0, 0.0, 0.0, -0.6, 0.0, 0.0]])  # of position error (negated) and velocity
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(net), content)
    return 0, 0, content.getvalue()


class Annotator:
    """Of ``omni.replicator``: a picture in which the first robot's joints are bars; nothing until it is warm."""

    def attach(self, products: list[tuple[int, int]]) -> None:
        self.size = products[0]
        self.cold = 3

    def get_data(self) -> np.ndarray:
        if self.cold:
            self.cold -= 1
            return np.zeros(0, np.uint8)
        width, height = self.size
        picture = np.zeros((height, width, 4), np.uint8)
        picture[..., 2:] = 255
        for row, angle in zip(np.array_split(picture, 12), WORLD.robots.get_dof_positions()[0].tolist(), strict=True):
            row[:, : int(width * (angle + 3) / 6)] = (255, 160, 0, 255)
        return picture


TIMELINE = Timeline()
CONTEXT = UsdContext()

CONTENTS.update(
    {
        "omni.client": {"Result": SimpleNamespace(OK=0), "stat": lambda _: (0, None), "read_file": read_file},
        "omni.timeline": {"get_timeline_interface": lambda: TIMELINE, "TimelineEventType": TimelineEventType},
        "omni.usd": {"get_context": lambda: CONTEXT},
        "omni.replicator.core": {
            "set_global_seed": lambda _: None,
            "create": SimpleNamespace(render_product=lambda camera, size: size),
            "AnnotatorRegistry": SimpleNamespace(get_annotator=lambda *_, **__: Annotator()),
        },
        "pxr.Usd": {"Stage": Stage},
        "pxr.UsdUtils": {"StageCache": StageCache},
        "isaacsim.core.api.simulation_context": {"SimulationContext": SimulationContext},
        "isaacsim.core.cloner": {"GridCloner": GridCloner},
        "isaacsim.core.simulation_manager": {"SimulationManager": SimulationManager, "IsaacEvents": StandIn},
        "isaacsim.core.version": {"get_version": lambda: ("5.1.0", "", "5", "1", "0", "", "", "")},
    }
)
