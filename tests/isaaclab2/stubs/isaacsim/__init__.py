"""A stand-in for Isaac Sim 5.1, as far as Isaac Lab 2.3.2 needs it to train a Go1 in a fake world.

As with Isaac Sim, ``carb`` is there once this is imported, and all else (``omni``, ``pxr``, ``isaacsim.core``)
once a ``SimulationApp`` was made.
"""

import os
from pathlib import Path

from isaacsim import stand_ins

os.environ.setdefault("EXP_PATH", str(Path(__file__).parent))
stand_ins.install("carb")

from isaacsim.app import SimulationApp  # noqa: E402

__all__ = ["SimulationApp"]
