"""Damaged and random files and lines end in a message for the user, never in a traceback.

A few hundred cases here; ``make fuzz`` tries 10,000 and more.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_evaluation import GOOD
from test_protocol import EXAMPLES

from go1_sweep import checkpoint, evaluation, finalists, lock, protocol, spec, status, trials_table
from go1_sweep.errors import BadInput, UserError
from go1_sweep.evaluation import evaluation_of
from go1_sweep.paths import SweepPaths, TrialPaths
from go1_sweep.protocol import Evaluated, Progress
from go1_sweep.report import page
from go1_sweep.sweep import resume
from go1_sweep.trial.checkpoints import PolicyError
from go1_sweep.trial.progress import TrialLog
from go1_sweep.trial.resume import read_start
from go1_sweep.trials_table import TrialRecord

CASES = int(os.environ.get("GO1_SWEEP_FUZZ", "300"))
KINDS = 8
"""Properties below, among which the cases are dealt out."""
fuzz = settings(
    max_examples=max(1, -(-CASES // KINDS)),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TOKENS = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"'",
    b": ",
    b"\n",
    b"\n  - ",
    b"!!python/object/apply:os.system [true]",
    b"&a *a",
    b"<<: ",
    b"9" * 400,
    b"[" * 3000,
    b"model_../../x.pt",
]

Edit = tuple[float, int, bytes]
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.one_of(st.sampled_from(TOKENS), st.binary(max_size=6))),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, changes: list[Edit]) -> bytes:
    """The content with some bytes of it replaced by others, each at a share of its length."""
    for share, length, token in changes:
        at = int(share * len(content))
        content = content[:at] + token + content[at + length :]
    return content


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory) -> Path:
    """What a sweep of two trials leaves behind, as far as it is read again."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    paths = SweepPaths(folder)
    text = Path("search_spaces/quickstart.yaml").read_text().replace("name: quickstart", "name: s")
    trials = paths.trial("0000").folder
    trials.mkdir(parents=True)
    paths.spec.write_text(text + f"\nstorage: {folder.parent}\n")
    records = [
        TrialRecord(each, {"num_envs": 16}, 3, "completed", "so", Progress(6, 9, 1.0, 2.0))
        for each in ("baseline", "0000")
    ]
    trials_table.write(paths, records, ["num_envs"])
    with lock.held(paths.lock, 1):
        pass
    trial = paths.trial("0000")
    checkpoint.publish(trial, Progress(6, 9, 1.0, 2.0), _write_checkpoint)
    checkpoint.publish(trial, Progress(8, 12, 1.5, 3.0), _write_checkpoint)
    trial.config.write_text("{task: flat, simulator: fake, parameters: {gamma: 0.95}, seed: 3}\n")
    trial.progress.write_text(
        "".join(json.dumps({"time": 1.0, **vars(Progress(i, i, 0.1, None))}) + "\n" for i in range(1, 7))
    )
    trial.logs.write_text("iteration,env_steps,train_seconds,mean_reward\n1,24,0.5,1.5\n2,48,1.0,2.5\n")
    answers = {seed: Evaluated("Flat", {"torch": "2"}, 1000, 0.02, [GOOD] * 12) for seed in (1, 2)}
    judged = evaluation_of("0000", "model_6.pt", "ab", answers, ("last",), is_exam=True)
    judged.save(trial.evaluation("model_6"))
    exam = judged.summary()
    each = {"trial": "0000", "parameters": {}, "exam": exam}
    result = {
        "phase": "finished",
        "winner": each,
        "baseline": {**each, "trial": "baseline"},
        "verdict": {"sentence": "No significant gain.", "ours": [0.5, 0.6], "theirs": [0.4, 0.5]},
        "video": None,
        "no_video": "none was asked for",
        "sim_to_sim": None,
        "baseline_video": None,
        "no_winner": "",
        "importances": [{"budget": 6, "trials": 9, "parameters": {"num_envs": 1.0}}],
        "seconds": {"wall": 1.5, "evaluation": 0.5},
    }
    paths.result.write_text(json.dumps(result))
    return folder


def _write_checkpoint(path: Path) -> None:
    weights = {"mlp.0.weight": torch.zeros(2, 3)}
    torch.save(
        {
            "actor_state_dict": weights,
            "critic_state_dict": weights,
            "optimizer_state_dict": {},
            "iter": 6,
            "infos": None,
        },
        path,
    )


@fuzz
@given(name=st.sampled_from(["flat", "rough", "quickstart"]), changes=edits)
def test_a_damaged_sweep_file_is_read_or_refused_in_a_sentence(tmp_path, name, changes):
    file = tmp_path / "sweep.yaml"
    file.write_bytes(damaged(Path(f"search_spaces/{name}.yaml").read_bytes(), changes))
    with contextlib.suppress(BadInput):
        spec.load(file)


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["name", "task", "simulator", "search", "baseline", "budget", "early_stopping", "resources", "final", "storage"]


@fuzz
@given(content=st.dictionaries(st.sampled_from(KEYS), nested))
def test_a_random_sweep_file_is_read_or_refused_in_a_sentence(tmp_path, content):
    whole = {
        "task": "flat",
        "search": {"trials": 1, "parameters": {"gamma": {"uniform": [0.9, 0.99]}}},
        "budget": {"max": 1},
    }
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps({**whole, **content}))
    with contextlib.suppress(BadInput):
        spec.load(file)


@fuzz
@given(message=st.sampled_from(EXAMPLES), changes=edits)
def test_a_damaged_line_of_the_protocol_is_a_message_or_a_protocol_error(message, changes):
    with contextlib.suppress(protocol.ProtocolError):
        protocol.decode(damaged(protocol.encode(message), changes))


@fuzz
@given(changes=edits)
def test_a_damaged_manifest_costs_checkpoints_and_no_more(sweep_folder, tmp_path, changes):
    whole = SweepPaths(sweep_folder).trial("0000")
    paths = TrialPaths(tmp_path)
    for each in whole.checkpoints():
        shutil.copy(each, tmp_path)
    paths.manifest.write_bytes(damaged(whole.manifest.read_bytes(), changes))
    known = checkpoint.read_manifest(whole)
    assert all(each.file in {one.file for one in known} for each in checkpoint.intact(paths, lambda warning: None))
    checkpoint.publish(paths, Progress(9, 1, 1.0, None), Path.touch, keep=2)
    assert checkpoint.read_manifest(paths)[-1].progress.iterations == 9


@fuzz
@given(changes=edits)
def test_a_damaged_checkpoint_is_read_or_refused_in_a_sentence(sweep_folder, tmp_path, changes):
    file = tmp_path / "model_6.pt"
    file.write_bytes(damaged(SweepPaths(sweep_folder).trial("0000").checkpoint(6).read_bytes(), changes))
    with contextlib.suppress(PolicyError):
        read_start(file)


def _status(paths: SweepPaths) -> None:
    found = status.read(paths.folder)
    json.dumps(status.as_json(found), allow_nan=False)
    status.show(paths.folder, in_json=False)
    page.page(found)


def _resume(paths: SweepPaths) -> None:
    wanted = resume.spec_of(paths.folder, None, [])
    before = resume.earlier(wanted)
    assert before is not None
    resume.refuse_changes(before, wanted)
    resume.is_done(before, wanted)
    resume.other_versions(paths, {"torch": "3"})


def _finalists(paths: SweepPaths) -> None:
    records = [record for record in trials_table.read(paths) if record.trial == "0000"]
    finalists.candidates_of(spec.load(paths.spec), paths, records, lambda warning: None)
    evaluation.load(paths.trial("0000").evaluation("model_6"))


def _log(paths: SweepPaths) -> None:
    log = TrialLog(paths.trial("0000"), "mean_reward", 2, Progress(1, 24, 0.5, 1.5), 0, pytest.fail)
    log.add({"Train/mean_reward": 1.0, "Perf/collection_time": 0.1, "Perf/learning_time": 0.1}, 0.2, 24, None)
    log.close()


FILES = [
    "spec.yaml",
    "trials.csv",
    "result.json",
    ".lock",
    *(f"trials/0000/{name}" for name in ("progress.jsonl", "logs.csv", "config.yaml", "evaluation_model_6.json")),
]


@fuzz
@pytest.mark.parametrize("look", [_status, _resume, _finalists, _log])
@given(name=st.sampled_from(FILES), changes=edits)
def test_a_damaged_file_of_a_sweep_is_read_or_refused_in_a_sentence(sweep_folder, tmp_path, look, name, changes):
    _on_damaged(sweep_folder, tmp_path, look, name, changes)


def _on_damaged(
    whole: Path, tmp_path: Path, look: Callable[[SweepPaths], None], name: str, changes: list[Edit]
) -> None:
    folder = tmp_path / "s"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    (folder / name).write_bytes(damaged((whole / name).read_bytes(), changes))
    with contextlib.suppress(UserError):
        look(SweepPaths(folder))
