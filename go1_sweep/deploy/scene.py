"""A Go1 on a page of viser's. The robot stays in the middle, and the ground goes by: a camera can be turned at will."""

from __future__ import annotations

from typing import Any

import numpy as np
from viser import SceneApi
from viser.transforms import SO3

from go1_sweep.deploy.go1 import Go1

VISUAL_GROUP = 2
"""Of MuJoCo's geoms: those that are for the eye, all of them meshes."""

GRAIN = 0.004
"""Vertices of a mesh that are as near as that are one [m]: a tenth of the triangles, and no difference to see."""

TILE = 1.0
"""Of the ground, which looks the same after that much [m]."""

TRUNK, LEGS = (70, 74, 82), (46, 48, 54)


class Scene:
    """The robot and its ground."""

    def __init__(self, scene: SceneApi, robot: Go1) -> None:
        scene.configure_default_lights(cast_shadow=True)
        self._ground = scene.add_grid(
            "/ground", infinite_grid=True, section_size=TILE, cell_size=TILE / 4, fade_distance=25.0, plane_opacity=0.5
        )
        model = robot.model
        self._parts = []
        visual = np.flatnonzero(model.geom_group == VISUAL_GROUP)
        for mesh in np.unique(model.geom_dataid[visual]):
            geoms = visual[model.geom_dataid[visual] == mesh]
            vertices, faces = _coarser(*_mesh(model, mesh))
            # Of a mesh that the robot has once, or once a leg; one handle draws it everywhere.
            part = scene.add_batched_meshes_simple(
                f"/robot/{model.mesh(mesh).name}",
                vertices,
                faces,
                batched_wxyzs=np.tile([1.0, 0.0, 0.0, 0.0], (len(geoms), 1)),
                batched_positions=np.zeros((len(geoms), 3)),
                batched_colors=TRUNK if len(geoms) == 1 else LEGS,
                lod="off",
                side="front",
            )
            self._parts.append((part, geoms))

    def show(self, robot: Go1) -> None:
        """Put everything where it is now."""
        data = robot.data
        here = np.array([*data.body("trunk").xpos[:2], 0.0])
        for part, geoms in self._parts:
            part.batched_positions = (data.geom_xpos[geoms] - here).astype(np.float32)
            part.batched_wxyzs = SO3.from_matrix(data.geom_xmat[geoms].reshape(-1, 3, 3)).wxyz.astype(np.float32)
        self._ground.position = -(here % TILE)


def _mesh(model: Any, mesh: int) -> tuple[np.ndarray, np.ndarray]:
    """The vertices of a mesh [m], (number, 3), and the triangles of them, (number, 3)."""
    begin, first = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh]
    vertices = model.mesh_vert[begin : begin + model.mesh_vertnum[mesh]]
    return vertices, model.mesh_face[first : first + model.mesh_facenum[mesh]]


def _coarser(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same mesh with fewer vertices, (number, 3), and triangles of them, (number, 3)."""
    _, kept, merged = np.unique(np.round(vertices / GRAIN), axis=0, return_index=True, return_inverse=True)
    faces = merged.ravel()[faces]
    is_flat = (faces == np.roll(faces, 1, axis=1)).any(axis=1)
    return vertices[kept], faces[~is_flat]
