"""The app: like Kit it takes the process over, and ends it."""

from __future__ import annotations

import builtins
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, ClassVar

from isaacsim import stand_ins

EXTENSIONS = ("isaaclab", "isaaclab_contrib", "isaaclab_assets", "isaaclab_tasks", "isaaclab_mimic", "isaaclab_rl")
OMNIVERSE = ("omni", "pxr", "usdrt")
UNUSED = ("cv2", "flatdict", "h5py", "hid", "matplotlib", "scipy", "trimesh", "warp")
"""What Isaac Lab imports and the Go1 tasks do not need in this world: it is not installed."""


class Settings:
    """``carb.settings``: a dictionary."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {
            "/persistent/isaac/asset_root/cloud": "https://assets.invalid",
            "/rtx/rendermode": "RaytracedLighting",
        }

    def get(self, path: str) -> Any:
        return self.values.get(path)

    def get_as_bool(self, path: str) -> bool:
        return bool(self.values.get(path))

    def set(self, path: str, value: Any) -> None:
        self.values[path] = value

    set_bool = set_int = set_float = set_string = set


SETTINGS = Settings()
stand_ins.CONTENTS["carb.settings"] = {"get_settings": lambda: SETTINGS}


class SimulationApp:
    """Makes Omniverse's modules and Isaac Lab's extensions importable, and ends the process when it is closed.

    Like Kit it writes to stdout at any time, installs signal handlers (on the main thread, or it fails), and
    puts Isaac Lab's folders in front of ``sys.path``: the top-level ``isaaclab`` of the wheel is only a bootstrap.

    With GO1_SWEEP_STUB_KIT_CLOSES_AFTER=<n> in the environment it closes itself in the n-th step of envs, counted
    over all envs that the process makes.
    """

    DEFAULT_LAUNCHER_CONFIG: ClassVar[dict[str, Any]] = {"headless": True}

    def __init__(self, launch_config: dict[str, Any] | None = None, experience: str = "") -> None:
        _say("Simulation App Starting")
        self.config = {**self.DEFAULT_LAUNCHER_CONFIG, **(launch_config or {})}
        signal.signal(signal.SIGINT, lambda *_: self.close())
        builtins.ISAAC_LAUNCHED_FROM_TERMINAL = False  # type: ignore[attr-defined]
        stand_ins.install("isaacsim", *OMNIVERSE, *UNUSED)
        for extension in EXTENSIONS:
            sys.path.insert(0, str(Path(experience).parents[1] / "source" / extension))
        from isaacsim import kit

        kit.APP = self
        for extension in EXTENSIONS:
            importlib.import_module(extension)
        from isaacsim import world

        world.enter()
        _say("Simulation App Startup Complete")

    def update(self) -> None: ...

    def is_running(self) -> bool:
        return True

    def close(self, wait_for_replicator: bool = True, skip_cleanup: bool = False) -> None:
        """End the process with status 0, whatever it was doing."""
        _say("Simulation App Shutting Down")
        os._exit(0)


def _say(words: str) -> None:
    os.write(1, f"[0.000s] {words}\n".encode())
