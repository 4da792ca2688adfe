"""The same sweep file and the same seed give the same sweep, one trial at a time on the CPU."""

from __future__ import annotations

import json

from conftest import Sweep, write_sweep

SEARCH = {
    "trials": 12,  # the last two by TPE
    "seed": 5,
    "parameters": {
        "schedule": {"choice": ["adaptive", "fixed"]},
        "learning_rate": {"log_uniform": [1e-4, 1e-2], "when": {"schedule": "fixed"}},
        "desired_kl": {"log_uniform": [1e-3, 1e-2], "when": {"schedule": "adaptive"}},
        "num_envs": {"choice": [16, 32]},
    },
    "fixed": {"env.noise": 1.0},
}


def test_a_sweep_repeats_exactly(tmp_path):
    sweeps = [make(tmp_path / name) for name in ("one", "other")]
    running = [sweep.start() for sweep in sweeps]
    for command in running:
        code, _, err = command.finish()
        assert code == 0, err
    one, other = map(told, sweeps)
    assert {row["state"] for row in one[0].values()} == {"completed", "early_stopped"}
    assert one == other


def make(folder) -> Sweep:
    folder.mkdir()
    return write_sweep(
        folder,
        search=SEARCH,
        baseline=True,
        early_stopping={"window": 2, "grace": 0.34, "reduction_factor": 2},
        resources={"gpus": 0, "concurrent": 1},
    )


def told(sweep: Sweep) -> tuple:
    """All that does not tell the time."""
    rows = {
        trial: {name: cell for name, cell in row.items() if name != "train_seconds"}
        for trial, row in sweep.trials().items()
    }
    result = json.loads((sweep.folder / "result.json").read_text())
    for each in (result["winner"], result["baseline"]):
        del each["train_seconds"]
    return rows, {name: each for name, each in result.items() if name not in ("seconds", "slots")}
