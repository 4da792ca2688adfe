"""What mjlab casts rays in, without making the same twice."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import mujoco_warp
import numpy as np
from mujoco_warp._src import bvh

from go1_sweep.simulators.warp_kernels import instead

triangulate = bvh._optimize_hfield_mesh
"""Heights and sizes of a height field to vertices and triangles. mujoco_warp has no public name for it."""


@contextlib.contextmanager
def render_context_made_once() -> Iterator[None]:
    """Let an env's second render context be the first where both are made of the same, of height fields that are known.

    mjlab makes it anew when domain randomization has expanded fields of the model, which it does not hold. Each time
    the height fields of rough ground become triangles in Python, for seconds: 40 fields, of which 30, slopes and waves,
    are the same whatever the seed.
    """
    made: list[tuple[dict[str, Any], Any]] = []

    def make_once(**arguments: Any) -> Any:
        if not made or made[-1][0] != arguments:
            made.append((arguments, make(**arguments)))
        return made[-1][1]

    with (
        instead(mujoco_warp, "create_render_context", make_once) as make,
        instead(bvh, "_optimize_hfield_mesh", _triangles),
    ):
        yield


def _triangles(heights: np.ndarray, *sizes: Any) -> tuple[np.ndarray, np.ndarray]:
    return _known_triangles(heights.tobytes(), heights.dtype, heights.shape, *sizes)


@functools.lru_cache(maxsize=64)  # of a quarter of a megabyte each
def _known_triangles(
    heights: bytes, dtype: np.dtype, shape: tuple[int, ...], *sizes: Any
) -> tuple[np.ndarray, np.ndarray]:
    return triangulate(np.frombuffer(heights, dtype).reshape(shape), *sizes)
