"""What share of a GPU's time a sweep trains: with workers kept from trial to trial, and with a fresh one for each.

Two sweeps with the same seed, side by side where each has a GPU of its own, else one after the other; where its
seconds went is read from `timeline.jsonl`. Steady state: from the end of the first trial on, when a worker has been
started and kernels are compiled.

    python benchmarks/kept_workers.py --task flat --trials 12 --seconds 60 --out FILE
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from go1_sweep import timeline
from go1_sweep.paths import SweepPaths

SIDES = ("kept", "fresh")


def main() -> None:
    """Run both, and write where their time went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="flat", help="rough or flat: the sweep file of that name is taken")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60, help="of training, of a trial that is not stopped")
    parser.add_argument("--cpu", action="store_true", help="side by side on the CPU")
    parser.add_argument("--set", action="append", default=[], dest="changes", help="as for the command line")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.gpus = 0 if options.cpu else torch.cuda.device_count()
    if not (options.cpu or options.gpus):
        parser.error("there is no GPU here: --cpu")
    with tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor(1 if options.gpus == 1 else len(SIDES)) as pool:
            found = dict(zip(SIDES, pool.map(lambda name: ran(name, Path(folder), options), SIDES), strict=True))
        environment = json.loads(SweepPaths(Path(folder, "kept")).environment.read_text())
    result = {
        "what": "seconds of a slot by use, and the share of training; in all, and from the end of the first trial on",
        "task": options.task,
        "trials": options.trials,
        "seconds": options.seconds,
        "changes": options.changes,
        **found,
        "gpus": environment["gpus"],
        "versions": {**environment["packages"], "ray": version("ray")},
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def ran(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the sweep; where its time went.

    Raises:
        SystemExit: it failed.
    """
    changes = [
        f"search.trials={options.trials}",
        f"budget.max={options.seconds}",
        f"resources.reuse_workers={str(name == 'kept').lower()}",
        "resources.concurrent=1",
        "final={finalists: 1, envs: 12, exam_seconds: 1, seeds: 1, video: false}",
        *(["resources.gpus=0", "resources.cpus=1"] if options.cpu else []),
        *options.changes,
    ]
    sets = [argument for change in changes for argument in ("--set", change)]
    command = ["run", f"search_spaces/{options.task}.yaml", "--name", name, "--storage", str(folder), *sets]
    gpu = {} if options.cpu else {"CUDA_VISIBLE_DEVICES": str(SIDES.index(name) % options.gpus)}
    said = folder / f"{name}.txt"
    with open(said, "wb") as out:
        arguments = [sys.executable, "-m", "go1_sweep", *command]
        code = subprocess.run(arguments, stdout=out, stderr=out, env={**os.environ, **gpu}, check=False).returncode
    if code:
        raise SystemExit(f"{name} ended with {code}:\n{said.read_text()}")
    found = shares(SweepPaths(folder / name))
    print(name, json.dumps(found), flush=True)
    return found


def shares(paths: SweepPaths) -> dict[str, Any]:
    """Where the time of the sweep's one slot went; on the CPU fresh actors are slots of their own."""
    stints = [dataclasses.replace(stint, slot="the slot") for stint in timeline.read(paths.timeline)]
    stints.sort(key=lambda stint: stint.began)
    found = {}
    for name, each, since in (("all", stints, stints[0].began), ("steady", stints[1:], stints[0].ended)):
        sums = timeline.in_all(timeline.by_slot(each))
        for use in ("held", "idle"):  # with what passed before the first of them
            sums[use] = round(sums[use] + each[0].began - since, 3)
        found[name] = {**sums, "share": sums["training"] / sums["held"], "trials": len(each)}
    return found


if __name__ == "__main__":
    main()
