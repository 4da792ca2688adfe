"""The final stage and `export`, as a user runs them: real Ray, real workers, the fake simulator."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from conftest import Sweep, start, table, wait_for, write_sweep

from go1_sweep import cli, evaluation
from go1_sweep.deploy.policy import Policy
from go1_sweep.errors import UserError
from go1_sweep.paths import PolicyPaths, SweepPaths
from go1_sweep.sweep import export
from go1_sweep.sweep.slots import Slots
from go1_sweep.terminal import Terminal

FINAL = {"finalists": 2, "envs": 12, "seeds": 2, "video": {"length": 12, "interval": 2}}
POLICY = [
    "README.md",
    "SHA256SUMS",
    "checkpoint.pt",
    "evaluation.json",
    "policy.json",
    "policy.onnx",
    "policy.pt",
    "policy.py",
]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> tuple[SweepPaths, str]:
    """A whole sweep whose trials differ in nothing that the exam sees, but for chance."""
    search = {"trials": 3, "parameters": {"learning_rate": {"log_uniform": [1e-3, 3e-3]}}}
    sweep = write_sweep(tmp_path_factory.mktemp("ended"), search=search, baseline=True, final=FINAL)
    code, out, err = sweep.run()
    assert code == 0, err
    return SweepPaths(sweep.folder), out


def test_a_sweep_ends_with_a_policy_its_numbers_and_its_film(ended):
    paths, out = ended
    result = json.loads(paths.result.read_text())
    beside = [] if result["winner"]["trial"] == "baseline" else ["baseline.mp4"]
    assert names(paths.best.folder) == sorted([*POLICY, "video.mp4", *beside])
    assert result["baseline_video"] == (f"best/{beside[0]}" if beside else None)
    for path in (paths.best.onnx, paths.best.video, paths.best.checkpoint, paths.result, paths.trials_table):
        assert str(path) in out
    readme = paths.best.readme.read_text()
    assert all(f"`{name}`" in readme for name in names(paths.best.folder) if name != "README.md")


def test_the_winner_is_the_best_of_the_selection_and_is_judged_beside_the_baseline(ended):
    paths, out = ended
    result, judged = json.loads(paths.result.read_text()), json.loads(paths.best.evaluation.read_text())
    assert len(judged["candidates"]) == 3, "each last checkpoint is its trial's best as well"
    scores = {each["trial"]: each["overall"]["score"] for each in judged["candidates"]}
    winner = result["winner"]
    assert winner["trial"] == judged["winner"]["trial"] == max(scores, key=lambda trial: scores[trial])
    for name in ("winner", "baseline"):
        assert result[name]["exam"] == {key: judged[name][key] for key in result[name]["exam"]}
    assert judged["baseline"]["trial"] == "baseline"
    assert result["candidates"] == [{key: each[key] for key in winner["exam"]} for each in judged["candidates"]]
    assert result["verdict"] == judged["verdict"]
    for text in (result["verdict"]["sentence"], f"Winner: {'' if winner['trial'] == 'baseline' else 'trial '}"):
        assert text in out


def test_each_finalist_is_exported_once(ended):
    paths, _ = ended
    judged = json.loads(paths.best.evaluation.read_text())
    for each in judged["candidates"]:
        is_winner = each["trial"] == judged["winner"]["trial"]
        exported = paths.best if is_winner else paths.trial(each["trial"]).exported
        assert paths.trial(each["trial"]).exported.folder.exists() != is_winner
        assert Policy.load(exported.folder).description["trial"] == each["trial"]
        sat = judged["winner"] if is_winner else each
        assert Policy.load(exported.folder).description["exam"]["score"] == sat["overall"]["score"]


def test_selection_and_judgement_have_seeds_of_their_own_and_none_of_training(ended):
    paths, _ = ended
    trained = {int(row["seed"]) for row in table(paths.trials_table)}
    judged = json.loads(paths.best.evaluation.read_text())

    def seeds(*evaluations: dict[str, Any]) -> set[int]:
        return {seed["seed"] for each in evaluations for seed in each["seeds"]}

    selecting, judging = seeds(*judged["candidates"]), seeds(judged["winner"], judged["baseline"])
    assert (len(selecting), len(judging), len(selecting | judging | trained)) == (2, 2, 4 + len(trained))


def test_what_is_kept_beside_a_checkpoint_is_all_that_it_was_examined_in(ended):
    paths, _ = ended
    judged = json.loads(paths.best.evaluation.read_text())
    winner = judged["winner"]
    kept = evaluation.load(paths.trial(winner["trial"]).evaluation(Path(winner["checkpoint"]).stem))
    assert kept is not None
    selected = next(each for each in judged["candidates"] if each["trial"] == winner["trial"])
    assert kept.to_json()["seeds"] == selected["seeds"] + winner["seeds"]


def test_a_finished_sweep_is_exported_without_another_exam(ended, tmp_path):
    paths, _ = ended
    before = {path: path.stat().st_mtime_ns for path in paths.trials.rglob("evaluation_*.json")}
    code, _, err = start("export", str(paths.folder), "--out", str(tmp_path / "out"), "--no_video").finish()
    assert code == 0, err
    assert names(tmp_path / "out") == sorted([*POLICY, "export.log"])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    ours, theirs = (json.loads(p.evaluation.read_text()) for p in (PolicyPaths(tmp_path / "out"), paths.best))
    assert ours == theirs
    assert "There is no video: none was asked for." in (tmp_path / "out" / "README.md").read_text()


def test_one_checkpoint_is_exported_with_what_stands_beside_it(ended, tmp_path):
    paths, _ = ended
    result = json.loads(paths.result.read_text())
    code, _, err = start(
        "export", str(paths.folder / result["winner"]["checkpoint"]), "--out", str(tmp_path / "out"), "--num-envs=24"
    ).finish()
    assert code == 0, err
    assert names(tmp_path / "out") == sorted([*POLICY, "export.log", "video.mp4"])
    judged = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert judged["winner"]["episodes"] == 24 * 2
    assert (judged["baseline"], judged["verdict"], judged["candidates"]) == (None, None, [])
    description = json.loads((tmp_path / "out" / "policy.json").read_text())
    origin = [description[key] for key in ("sweep", "trial", "checkpoint")]
    assert origin == ["sweep", result["winner"]["trial"], Path(result["winner"]["checkpoint"]).name]


def test_a_folder_of_rsl_rl_checkpoints_gives_its_newest_by_number(ended, tmp_path):
    paths, _ = ended
    content = paths.trial("baseline").checkpoint(6).read_bytes()
    run = tmp_path / "run"
    run.mkdir()
    for number in (9, 10):
        (run / f"model_{number}.pt").write_bytes(content if number == 10 else b"")
    arguments = ("export", str(run), "--task", "flat", "--simulator", "fake", "--num-envs", "12", "--seeds", "1")
    code, _, err = start(*arguments, "--no-video", "--out", str(tmp_path / "out")).finish()
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "policy.json").read_text())["checkpoint"] == "model_10.pt"


@pytest.mark.parametrize(("agrees", "is_proven"), [(True, True), (False, False), (None, False)])
def test_export_verify_fails_where_plain_mujoco_did_not_prove_the_policy(
    ended, tmp_path, monkeypatch, agrees, is_proven
):
    paths, _ = ended
    outcome = SimpleNamespace(sim_to_sim=SimpleNamespace(agrees=agrees))  # the fake robot is none that MuJoCo knows
    monkeypatch.setattr(export.final, "run", lambda *_: outcome)
    monkeypatch.setattr(export, "local_ray", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(export, "slots_for", lambda *_: Slots(1, 0, 1))
    terminal = cast(Terminal, SimpleNamespace(note=print, exported=lambda *_: None))
    fails = pytest.raises(UserError, match="was not proven in plain MuJoCo")
    for verify in (True, False):
        with contextlib.nullcontext() if is_proven or not verify else fails:
            export.export(paths.folder, tmp_path / str(verify), export.Wanted(verify=verify), terminal)


def test_what_cannot_be_exported_is_told_in_a_sentence_and_leaves_nothing(ended, tmp_path, capsys):
    paths, _ = ended
    empty, foreign = tmp_path / "empty", tmp_path / "model_3.pt"
    empty.mkdir()
    foreign.write_text("hello")
    other = tmp_path / "model_4.pt"
    content = torch.load(paths.trial("baseline").checkpoint(6), weights_only=True)
    content["actor_state_dict"]["mlp.0.weight"] = torch.ones(8, 48)
    torch.save(content, other)
    flat = ("--task", "flat", "--simulator", "fake")
    full = str(paths.best.folder)
    cases = [
        ((str(tmp_path / "no"),), "no: there is no such file or folder"),
        ((str(empty),), "empty is no sweep (it has no spec.yaml), and holds no checkpoint (model_<n>.pt)"),
        ((str(foreign),), "no config.yaml or policy.json beside it says which task it was trained on; name it: --task"),
        ((str(paths.folder), *flat), "--task is for checkpoints"),
        ((str(foreign), "--task", "flat", "--simulator", "mjlb"), "unknown simulator 'mjlb'; did you mean 'mjlab'?"),
        ((str(other), *flat, "--num-envs", "50"), "--num_envs: the exam has 12 commands, so envs are a multiple of"),
        ((str(other), "--num-envs", "0"), "argument --num-envs: expected a whole number of at least 1, not '0'"),
    ]
    for arguments, message in cases:
        code = cli.main(["export", *arguments, "--out", str(tmp_path / "out")])
        err = capsys.readouterr().err
        assert (code, len(err.splitlines())) == (2, 1), err
        assert message in err
        assert not (tmp_path / "out").exists()
    assert cli.main(["export", str(paths.folder), "--out", full]) == 2
    assert f"--out {full} is not empty" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path / ("x" * 300)), "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1

    unfit = "takes observations of 48 numbers, and Fake-Flat-Unitree-Go1 gives 3"
    damaged = "model_3.pt is no rsl_rl checkpoint: it is damaged, or another kind of file"
    out = tmp_path / "here"
    out.mkdir()
    for file, folder, message in ((other, "there", unfit), (foreign, ".", damaged)):  # by a simulator
        code, _, err = start("export", str(file), *flat, "--out", folder, cwd=out).finish()
        assert (code, len(err.splitlines()), list(out.iterdir())) == (2, 1, []), err
        assert message in err


def test_a_checkpoint_that_was_exchanged_is_left_out_and_all_others_sit_the_exam_again(ended, tmp_path):
    paths, _ = ended
    copied = SweepPaths(tmp_path / "copied")
    shutil.copytree(paths.folder, copied.folder)
    shutil.copyfile(copied.trial("0001").checkpoint(6), copied.trial("baseline").checkpoint(6))
    code, out, err = start("export", str(copied.folder), "--no-video", "--out", str(tmp_path / "out")).finish()
    assert code == 0, err
    assert "baseline/model_6.pt is missing, or not the file that its trial published" in out
    judged = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert "baseline" not in [each["trial"] for each in judged["candidates"]]


def test_an_export_that_is_ended_says_so(ended, tmp_path):
    paths, _ = ended
    command = start("export", str(paths.trial("0000").checkpoint(6)), "--out", str(tmp_path / "out"))
    wait_for(lambda: (tmp_path / "out" / "export.log").exists(), 60, "the first policy")
    command.process.send_signal(signal.SIGTERM)
    code, _, err = command.finish()
    assert (code, err) == (130, f"go1_sweep: interrupted; {tmp_path / 'out'} is not complete\n")


def test_with_retrain_seeds_the_verdict_is_about_the_parameters(sweep):
    """A trial whose robots do not fall beats a baseline whose every other robot does, with each seed."""
    search = {"trials": 1, "parameters": {"env.fall_step": {"choice": [0]}}}
    final = {"finalists": 1, "envs": 12, "seeds": 1, "retrain_seeds": 4, "video": False}
    again = sweep(search=search, final=final, baseline={"env.fall_step": 3})
    code, out, err = again.run()
    assert code == 0, err
    paths = SweepPaths(again.folder)
    result, judged = json.loads(paths.result.read_text()), json.loads(paths.best.evaluation.read_text())
    verdict = result["verdict"]
    assert (result["winner"]["trial"], verdict["about"], verdict["is_gain"]) == ("0000", "parameters", True)
    assert (verdict["probability"], verdict["interval"][0] > 0.3) == (1.0, True)
    assert verdict["sentence"] in out
    names = [f"{trial}-{seed}" for trial in ("0000", "baseline") for seed in range(1, 5)]
    assert [each["trial"] for each in judged["retrained"]] == names
    rows = table(paths.retrained.trials_table)
    trained = {row["seed"] for row in table(paths.trials_table)}
    assert {row["state"] for row in rows} == {"completed"}
    assert result["seconds"]["retrain"] == pytest.approx(sum(float(row["train_seconds"]) for row in rows), abs=0.01)
    assert len({row["seed"] for row in rows} | trained) == 8 + 2
    assert "at most   10 x 6 iterations; 4 of them the winner's, and as many the baseline's, with fresh seeds" in out


def one_trial(sweep, **fixed) -> Sweep:
    search = {"trials": 1, "parameters": {"entropy_coef": {"uniform": [0.0, 0.01]}}, "fixed": fixed}
    return sweep(search=search, final={**FINAL, "finalists": 1, "seeds": 1})


def test_a_crash_in_gl_costs_the_film_and_nothing_else(sweep):
    crashed = one_trial(sweep, **{"env.draw_fault": "crash"})
    code, out, err = crashed.run()
    assert code == 0, err
    paths = SweepPaths(crashed.folder)
    assert names(paths.best.folder) == POLICY
    result = json.loads(paths.result.read_text())
    assert result["video"] is None
    assert "killed by signal 11 (SIGSEGV)" in result["no_video"]
    assert f"video      none: {result['no_video']}" in out


def test_without_egl_everything_but_the_film_is_there_and_the_package_is_named(sweep, tmp_path):
    hidden = tmp_path / "libraries"
    hidden.mkdir()
    (hidden / "libEGL.so.1").write_bytes(b"")  # found first, and no library
    command = start("run", str(one_trial(sweep).file), env={"LD_LIBRARY_PATH": str(hidden)})
    code, out, err = command.finish()
    assert code == 0, err
    paths = SweepPaths(tmp_path / "runs" / "sweep")
    assert names(paths.best.folder) == POLICY
    no_video = json.loads(paths.result.read_text())["no_video"]
    assert "libEGL" in no_video
    assert "apt-get install libegl1" in no_video
    assert f"video      none: {no_video}" in out


def test_where_no_policy_can_be_played_the_sweep_fails_and_says_how_to_go_on(sweep):
    failing = one_trial(sweep, **{"env.play_fault": "crash"})
    code, _, err = failing.run()
    assert code == 1
    assert "killed by signal 11 (SIGSEGV)" in err
    assert f"python -m go1_sweep resume {failing.folder}" in err
    assert "Traceback" not in err
    result = json.loads((failing.folder / "result.json").read_text())
    assert result["winner"] is None
    assert (result["phase"], result["states"]) == ("failed", {"completed": 1})
    assert result["no_winner"] in err


def test_a_sweep_that_is_interrupted_in_its_final_stage_is_brought_to_its_end_by_export(sweep, tmp_path):
    interrupted = one_trial(sweep, **{"env.play_fault": "hang"})
    command = interrupted.start()
    log = SweepPaths(interrupted.folder).final_log
    wait_for(lambda: log.exists() and "Linear" in log.read_text(), 120, "a policy that is played")
    command.process.send_signal(signal.SIGTERM)
    code, _, err = command.finish()
    assert code == 130
    assert f"python -m go1_sweep resume {interrupted.folder}" in err
    assert json.loads((interrupted.folder / "result.json").read_text())["phase"] == "interrupted"
    config = SweepPaths(interrupted.folder).trial("0000").config
    config.write_text(config.read_text().replace("env.play_fault: hang", "env.play_fault: ''"))
    code, _, err = start("export", str(interrupted.folder), "--no-video", "--out", str(tmp_path / "out")).finish()
    assert code == 0, err
    assert names(tmp_path / "out") == sorted([*POLICY, "export.log"])
