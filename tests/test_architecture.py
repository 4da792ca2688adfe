"""Which part of the package may import which; the arrows of the design, held by a test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import go1_sweep

ROOT = Path(go1_sweep.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

DRIVER_ONLY = {"ray", "optuna", "sqlalchemy"}
WORKER_ONLY = {"torch", "rsl_rl", "mjlab", "mujoco", "warp", "tensordict", "isaaclab"}
SHARED = (
    "protocol.py",
    "protocol_jobs.py",
    "paths.py",
    "errors.py",
    "checkpoint.py",
    "patience.py",
    "strict_json.py",
    "exam.py",
    "columns.py",
    "turn.py",
)


def imports(module: str) -> set[str]:
    """Everything that the module imports, at any depth; for ``from a import b`` both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports(module)}


def ours(module: str) -> set[str]:
    return {name.removeprefix("go1_sweep.") for name in imports(module) if name.startswith("go1_sweep.")}


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("sweep/")])
def test_ray_and_optuna_are_imported_in_sweep_alone(module):
    assert not packages(module) & DRIVER_ONLY


@pytest.mark.parametrize("module", MODULES)
def test_wandb_is_imported_in_tracking_alone_by_modules_that_are_a_process_of_their_own(module):
    if not module.startswith("tracking/"):
        assert "wandb" not in packages(module)
        assert not any(name.startswith("tracking.wandb") for name in ours(module))


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith(("trial/", "simulators/"))])
def test_the_driver_imports_neither_torch_nor_a_simulator(module):
    allowed = {"mujoco"} if module.startswith("deploy/") else set()  # MuJoCo's own engine, in C
    assert not packages(module) & WORKER_ONLY - allowed


def test_a_robot_needs_numpy_and_onnxruntime_alone():
    import sys

    assert packages("deploy/policy.py") <= set(sys.stdlib_module_names) | {"numpy", "onnxruntime"}


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(("trial/", "simulators/"))])
def test_the_worker_imports_nothing_of_the_driver(module):
    allowed = (*(name.removesuffix(".py") for name in SHARED), "trial", "simulators", "deploy")
    assert all(name.startswith(allowed) for name in ours(module))


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("trial/")])
def test_the_worker_is_reached_through_the_protocol_alone(module):
    assert not any(name.split(".")[0] == "trial" for name in ours(module))


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("simulators/")])
def test_simulators_do_not_know_who_uses_them(module):
    assert not any(name.startswith(("trial", "protocol")) for name in ours(module))


@pytest.mark.parametrize("module", SHARED)
def test_what_both_sides_share_needs_the_standard_library_alone(module):
    import sys

    assert packages(module) <= set(sys.stdlib_module_names) | {"go1_sweep"}
    assert all(name.startswith(("errors", "paths", "protocol", "strict_json")) for name in ours(module))
