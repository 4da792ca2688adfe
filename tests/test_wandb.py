"""W&B has of a sweep what its folder has, and no server, key or kill of W&B's side changes the sweep."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, Command, Sweep, by_trial, start, table, wait_for, write_sweep
from wandb_files import Run, runs
from wandb_server import Server, hanging, serving

from go1_sweep import spec
from go1_sweep.errors import BadInput
from go1_sweep.paths import BASELINE, SweepPaths, TrialPaths
from go1_sweep.tracking import follower
from go1_sweep.tracking.follower import END_SECONDS, KILL_SECONDS
from go1_sweep.tracking.rows import Rows

KEY = "0123456789abcdef" * 2 + "01234567"
WANDB = {"project": "go1-tests", "mode": "auto"}
FEW = {"search": {**SMALL["search"], "trials": 2}, "resources": {"gpus": 0, "concurrent": 2}}


@pytest.fixture(scope="session", autouse=True)
def _no_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever runs the tests may have one, and settings of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("NETRC", str(tmp_path_factory.mktemp("home") / "netrc"))
        yield


def told(sweep: Sweep) -> dict[str, Run]:
    """The runs by name, as W&B's own files have them."""
    return runs(SweepPaths(sweep.folder).wandb)


def of_trials(sweep: Sweep) -> dict[str, Run]:
    return {name: run for name, run in told(sweep).items() if run.record.job_type == "trial"}


def history(sweep: Sweep, run: Run, trial: str) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """What W&B has of a trial, and what ``logs.csv`` and ``progress.jsonl`` have."""
    ours = [{name: each for name, each in row.items() if not name.startswith("_")} for row in run.history]
    lines = TrialPaths(sweep.folder / "trials" / trial).progress.read_text().splitlines()
    scores = [{} if (score := json.loads(line)["score"]) is None else {"score": score} for line in lines]
    rows = [{name: float(cell) for name, cell in row.items() if cell} for row in sweep.logs(trial)]
    return ours, [row | score for row, score in zip(rows, scores, strict=True)]


@dataclass
class Finished:
    sweep: Sweep
    out: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A sweep that ended well, without a key."""
    parameters = {"learning_rate": {"log_uniform": [1e-4, 1e-2]}, "num_envs": {"choice": [32, 16384]}}
    sweep = write_sweep(
        tmp_path_factory.mktemp("wandb"),
        search={"trials": 5, "sampler": "random", "seed": 1, "parameters": parameters},
        baseline={"learning_rate": 1e-4},  # not the best one
        budget={"unit": "env_steps", "max": 1536},
        final={"finalists": 2, "envs": 12, "seeds": 1, "retrain_seeds": 4, "video": {"length": 12}},
        tracking={"wandb": {**WANDB, "entity": "team"}},
    )
    code, out, err = sweep.run()
    assert (code, err) == (0, "")
    return Finished(sweep, out)


def test_each_trial_is_a_run_with_its_parameters_in_the_group_of_the_sweep(finished):
    rows, found = finished.sweep.trials(), told(finished.sweep)
    assert set(found) == {"sweep", *rows, *retrained(finished.sweep)}
    assert {row["state"] for row in rows.values()} == {"completed", "infeasible"}
    ids = {name: run.record.run_id.partition("-") for name, run in found.items()}
    assert {(sweep_id, name) for sweep_id, _, name in ids.values()} == {(ids["sweep"][0], name) for name in found}
    assert {run.record.run_group for run in found.values()} == {f"sweep-{ids['sweep'][0]}"}
    assert {(run.record.entity, run.record.project) for run in found.values()} == {("team", "go1-tests")}
    for trial, run in of_trials(finished.sweep).items():
        row = rows[trial]
        parameters = {name: float(row[name]) for name in ("learning_rate", "num_envs") if row[name]}
        assert {name: each for name, each in run.config.items() if name != "_wandb"} == {
            **parameters,
            "seed": int(row["seed"]),
        }
        assert run.tags == ["fake", "flat", row["state"]]
        assert (run.summary["state"], run.summary["why"]) == (row["state"], row["why"])
        assert run.summary["score"] == (float(row["score"]) if row["score"] else None)
        assert run.summary["env_steps"] == int(row["env_steps"])
    assert set(of_trials(finished.sweep)) == set(rows)


def test_each_training_with_a_fresh_seed_is_a_run_of_its_own_kind(finished):
    rows = retrained(finished.sweep)
    found = {name: run for name, run in told(finished.sweep).items() if run.record.job_type == "retraining"}
    assert set(found) == set(rows) and len(rows) == 8
    for name, run in found.items():
        assert run.config["seed"] == int(rows[name]["seed"])
        assert len(run.history) == int(rows[name]["iterations"])


def retrained(sweep: Sweep) -> dict[str, dict[str, str]]:
    return by_trial(SweepPaths(sweep.folder).retrained)


def test_each_iteration_is_logged_as_logs_csv_has_it_on_the_axis_of_the_budget(finished):
    for trial, run in of_trials(finished.sweep).items():
        assert run.step_metrics == {"env_steps"}
        if run.history:
            ours, theirs = history(finished.sweep, run, trial)
            assert ours == theirs
        else:
            assert not finished.sweep.iterations(trial)
    assert len(of_trials(finished.sweep)[BASELINE].history) == 6


def test_the_sweeps_own_run_has_tables_charts_both_films_and_the_verdict(finished):
    run, paths = told(finished.sweep)["sweep"], SweepPaths(finished.sweep.folder)
    result = json.loads(paths.result.read_text())
    assert run.record.job_type == "sweep" and run.tags == ["fake", "flat"] and run.exit_codes == [0]
    (file,) = run.media("trials")
    trials = json.loads(file.read_text())
    columns = ["trial", "state", "why", "score", "iterations", "env_steps", "train_seconds", "seed"]
    assert trials["columns"] == [*columns, "learning_rate", "num_envs"]
    states = {row["trial"]: row["state"] for row in table(paths.trials_table)}
    assert {row[0]: row[1] for row in trials["data"]} == states
    (file,) = run.media("exam")
    exam = json.loads(file.read_text())
    judged = dict(zip(exam["columns"], exam["data"][0], strict=True))
    assert judged["trial"] == result["winner"]["trial"] and judged["purpose"] == "judgement"
    assert judged["score"] == pytest.approx(result["winner"]["exam"]["overall"]["score"])
    assert [judged["score_low"], judged["score_high"]] == pytest.approx(result["winner"]["exam"]["intervals"]["score"])
    for whose, film in (("winner", paths.best.video), ("baseline", paths.best.baseline_video)):
        (file,) = run.media(f"video of the {whose}")
        assert file.read_bytes() == film.read_bytes()
    for chart in ("Learning curves", "Parameters and scores", "Slices", "Where the time went"):
        (file,) = run.media(chart)
        assert json.loads(file.read_text())["data"]
    assert run.summary["verdict"] == result["verdict"]["sentence"]
    assert (run.summary["phase"], run.summary["winner"]) == ("finished", result["winner"]["trial"])


def test_the_policy_is_an_artifact_of_the_winners_run(finished):
    paths = SweepPaths(finished.sweep.folder)
    result = json.loads(paths.result.read_text())
    made = {name: each for name, run in told(finished.sweep).items() for each in run.artifacts if each.type == "policy"}
    ((trial, artifact),) = made.items()
    assert trial == result["winner"]["trial"]
    assert (artifact.name, set(artifact.aliases)) == ("sweep-policy", {"best", "latest"})
    about = json.loads(artifact.metadata)
    assert (about["trial"], about["parameters"]) == (trial, result["winner"]["parameters"])
    assert about["exam"]["score"] == pytest.approx(result["winner"]["exam"]["overall"]["score"])
    assert about["verdict"]["sentence"] == result["verdict"]["sentence"]
    contents = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert set(contents) == {path.name for path in paths.best.folder.iterdir()}
    assert contents["policy.onnx"].read_bytes() == paths.best.onnx.read_bytes()
    assert contents["policy.onnx"].is_relative_to(paths.wandb), "all that is to be uploaded is in the sweep's folder"


def test_without_a_key_it_stays_in_the_folder_until_the_command_that_was_shown_uploads_it(finished):
    (command,) = re.findall(r"W&B: offline; to upload its runs: (.*)", finished.out)
    assert finished.out.count("W&B") == 1
    environment = {"WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
    with serving() as server:
        program, *arguments = shlex.split(command)
        subprocess.run(
            [Path(sys.executable).with_name(program), *arguments],
            env={**os.environ, **environment, "WANDB_BASE_URL": server.address},
            cwd=finished.sweep.file.parent,
            check=True,
            capture_output=True,
            timeout=120,
        )
    has_all(server, finished.sweep)


def has_all(server: Server, sweep: Sweep) -> None:
    """The server has each trial as it was, its winner's video, and its policy as an artifact of the winner's run."""
    found = {run_id.partition("-")[2]: run for run_id, run in server.runs.items()}
    rows = sweep.trials()
    assert set(found) == {"sweep", *rows, *retrained(sweep)}
    for trial, row in rows.items():
        assert [line["_step"] for line in found[trial].history] == sweep.iterations(trial)
        assert found[trial].tags[-1] == row["state"]
        assert found[trial].summary["why"] == row["why"]
    assert all(run.is_over for run in found.values())
    winner = json.loads(SweepPaths(sweep.folder).result.read_text())["winner"]["trial"]
    made = [each["runName"].partition("-")[2] for each in server.artifacts if each["artifactTypeName"] == "policy"]
    assert made == [winner]


@pytest.mark.parametrize(("machine", "has_key"), [("api.wandb.ai", True), ("example.org", False)])
def test_a_key_of_wandbs_own_server_is_found_as_wandb_finds_it(tmp_path, machine, has_key):
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {machine}\nlogin user\npassword {KEY}\n")
    netrc.chmod(0o600)
    asked = "from go1_sweep.tracking.wandb_runs import _has_key; print(_has_key())"
    done = subprocess.run(
        [sys.executable, "-c", asked], env={**os.environ, "NETRC": str(netrc)}, capture_output=True, text=True
    )
    assert done.stdout == f"{has_key}\n", done.stderr


def test_with_a_key_in_netrc_it_is_online_and_the_key_stands_in_no_file_of_the_sweep(tmp_path):
    netrc = tmp_path / "netrc"
    with serving() as server:
        netrc.write_text(f"machine {server.address.removeprefix('http://')}\nlogin user\npassword {KEY}\n")
        netrc.chmod(0o600)
        sweep = tracked(tmp_path, base_url=server.address, group="a group")
        code, out, err = start("run", str(sweep.file), env={"NETRC": str(netrc)}).finish()
    assert (code, err) == (0, "")
    (sweeps_own,) = (run_id for run_id in server.runs if run_id.endswith("-sweep"))
    assert re.findall("W&B: (.*)", out) == [f"{server.address}/me/go1-tests/runs/{sweeps_own}"]
    has_all(server, sweep)
    assert {run.group for run in server.runs.values()} == {"a group"}
    assert server.uses == [(sweeps_own, "sweep-policy")], "the lineage, of which only a server can hear"
    assert SweepPaths(sweep.folder).wandb_log.read_text() == "", "nothing went wrong"
    assert holding(KEY, sweep) == []
    assert KEY not in out


def tracked(folder: Path, **wandb: Any) -> Sweep:
    return write_sweep(folder, **FEW, tracking={"wandb": {**WANDB, **wandb}})


def holding(text: str, sweep: Sweep) -> list[Path]:
    return [path for path in sweep.folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def assert_whole(sweep: Sweep) -> None:
    """All trials have ended well, and W&B's files have each of them."""
    rows = sweep.trials()
    assert {trial: row["state"] for trial, row in rows.items()} == {"0000": "completed", "0001": "completed"}
    for trial, run in of_trials(sweep).items():
        assert [row["_step"] for row in run.history] == sweep.iterations(trial)
        assert run.tags[-1] == "completed"
    assert set(told(sweep)) == {"sweep", *rows}
    assert told(sweep)["sweep"].summary["phase"] == "finished"


def ended_in_time(running: Command, sweep: Sweep) -> str:
    """What the sweep printed, which had its result no longer before than a follower may take."""
    code, out, err = running.finish()
    ended = time.time()
    assert (code, err) == (0, "")
    report_seconds = 15
    result = SweepPaths(sweep.folder).result
    assert ended - result.stat().st_mtime < END_SECONDS + KILL_SECONDS + report_seconds
    return out


@pytest.mark.parametrize("kind", ["hangs", "refuses"])
def test_a_server_that_never_answers_neither_slows_nor_ends_a_trial(tmp_path, kind):
    with hanging() as address:
        base_url = address if kind == "hangs" else "http://127.0.0.1:9"  # where nobody listens
        sweep = tracked(tmp_path, mode="online", base_url=base_url)
        running = start("run", str(sweep.file), env={"WANDB_API_KEY": KEY})
        out = ended_in_time(running, sweep)
    (said,) = re.findall("W&B: (.*)", out)
    assert f"to upload them: WANDB_BASE_URL={base_url} wandb sync {sweep.folder / 'wandb'}" in said
    assert_whole(sweep)
    assert holding(KEY, sweep) == [] and KEY not in out


def test_what_a_server_that_falls_silent_has_not_taken_stays_in_the_folder(tmp_path):
    with serving() as server:
        sweep = tracked(tmp_path, base_url=server.address)
        running = start("run", str(sweep.file), env={"WANDB_API_KEY": KEY})
        fall_silent(server)
        out = ended_in_time(running, sweep)
    address, said = re.findall("W&B: (.*)", out)
    assert address.startswith(server.address)
    assert f"wandb sync --include-online {sweep.folder / 'wandb'}" in said
    assert_whole(sweep)


def fall_silent(server: Server) -> None:
    wait_for(lambda: any(run.history for run in list(server.runs.values())), 90, "an iteration at the server")
    server.is_silent = True


def test_no_follower_waits_for_a_silent_server_when_its_driver_was_killed(tmp_path):
    with serving() as server:
        sweep = write_sweep(
            tmp_path,
            search={**FEW["search"], "fixed": {"env.step_seconds": 0.02}},
            budget={"unit": "iterations", "max": 1000},
            resources=FEW["resources"],
            tracking={"wandb": {**WANDB, "base_url": server.address}},
        )
        running = start("run", str(sweep.file), env={"WANDB_API_KEY": KEY})
        fall_silent(server)
        running.process.kill()
        running.finish()  # no process is left
    assert {run.tags[-1] for run in of_trials(sweep).values()} == {"interrupted"}


def test_a_sweep_that_is_killed_interrupted_and_resumed_logs_each_iteration_once_and_leaves_no_process(tmp_path):
    sweep = write_sweep(
        tmp_path,
        search={**FEW["search"], "fixed": {"env.step_seconds": 0.02, "agent.save_interval": 1000}},
        budget={"unit": "iterations", "max": 40},
        resources={"gpus": 0, "concurrent": 2},
        tracking={"wandb": {**WANDB, "mode": "offline"}},
    )

    def come_to(iteration: int) -> None:
        wait_for(lambda: iteration in sweep.iterations("0000"), 90, f"iteration {iteration}")

    running = sweep.start()
    come_to(3)
    os.kill(running.process.pid, signal.SIGKILL)
    running.finish()  # no process is left
    killed = of_trials(sweep)
    assert {tuple(run.tags) for run in killed.values()} == {("fake", "flat", "interrupted")}
    assert killed["0000"].history, "which are all trained again: there is no checkpoint yet"

    running = start("resume", str(sweep.folder))
    come_to(15)
    os.killpg(running.process.pid, signal.SIGINT)
    code, _, err = running.finish()
    assert code == 130, err
    assert {run.summary["why"] for run in of_trials(sweep).values()} == {"the sweep was interrupted"}

    code, _, err = start("resume", str(sweep.folder)).finish()
    assert code == 0, err
    found = of_trials(sweep)
    for trial, run in found.items():
        assert run.record.run_id == killed[trial].record.run_id
        assert [row["_step"] for row in run.history] == sweep.iterations(trial) == list(range(1, 41))
        assert run.tags == ["fake", "flat", "completed"]
    assert len(found) == 2


def test_a_follower_that_is_killed_does_not_disturb_its_sweep_and_the_next_one_tells_what_it_had_not(tmp_path):
    sweep, paths = tracked(tmp_path, mode="offline"), SweepPaths(tmp_path / "runs" / "sweep")
    running = sweep.start()
    wait_for(lambda: "0000" in folders(paths), 90, "the run of a trial")
    (process,) = (each for each in running.descendants() if "wandb_follower" in " ".join(each.cmdline()))
    process.kill()
    code, out, err = running.finish()
    assert (code, err) == (0, "")
    assert f"W&B: its follower ended with an error; see {paths.wandb_log}" in out
    torn = folders(paths)
    assert torn

    code, _, err = start("resume", str(sweep.folder), "--set", "final.seeds=2").finish()
    assert (code, err) == (0, "")
    assert_whole(sweep)
    assert not folders(paths) and not any((paths.wandb / name).exists() for name in torn.values())


def folders(paths: SweepPaths) -> dict[str, str]:
    """Those of open runs, as the follower remembers them."""
    return json.loads(paths.wandb_state.read_text())["folders"] if paths.wandb_state.exists() else {}


def test_tracking_may_change_from_one_start_of_a_sweep_to_the_next(finished):
    code, out, err = finished.sweep.run("--set", "tracking.wandb=null")
    assert (code, err) == (0, "")
    assert f"{finished.sweep.folder} is finished" in out


ROW, PROGRESS = "{},{},{}\n", '{{"iterations": {}, "score": {}}}\n'


def test_rows_come_once_with_their_scores_however_the_files_are_written(tmp_path):
    paths = TrialPaths(tmp_path)
    rows = Rows(paths)
    assert rows.after(0, is_over=False) == []
    paths.logs.write_text("iteration,mean_reward,kl\n" + ROW.format(1, 0.5, "") + ROW.format(2, 1.5, 0.1) + "3,2.")
    paths.progress.write_text(PROGRESS.format(1, "null") + '{"iterations": 2, "sc')
    assert rows.after(0, is_over=False) == [{"iteration": 1, "mean_reward": 0.5}]
    with open(paths.logs, "a") as logs, open(paths.progress, "a") as progress:
        logs.write("5,nan\n" + ROW.format(4, 3, 0))
        progress.write('ore": 1.0}\n' + "torn\n" + PROGRESS.format(4, 2.0))
    assert rows.after(1, is_over=False) == [
        {"iteration": 2, "mean_reward": 1.5, "kl": 0.1, "score": 1.0},
        {"iteration": 3, "mean_reward": 2.5},
        {"iteration": 4, "mean_reward": 3.0, "kl": 0.0, "score": 2.0},
    ]


def test_a_trial_that_went_back_to_its_checkpoint_goes_on_after_what_is_known(tmp_path):
    paths, rows = TrialPaths(tmp_path), Rows(TrialPaths(tmp_path))
    paths.logs.write_text("iteration,mean_reward\n1,1\n2,2\n3,3\n")
    assert len(rows.after(0, is_over=True)) == 3
    (tmp_path / "another").write_text("iteration,level,mean_reward\n1,,1\n2,,2.5\n3,,3.5\n4,7,4.5\n")
    (tmp_path / "another").replace(paths.logs)
    assert rows.after(3, is_over=True) == [{"iteration": 4, "level": 7.0, "mean_reward": 4.5}]
    rows.close()


def spec_with(folder: Path, wandb: Any) -> spec.Spec:
    return spec.load(write_sweep(folder, tracking={"wandb": wandb}).file)


def test_nothing_is_told_unless_the_sweep_file_says_so(tmp_path):
    assert spec.load(write_sweep(tmp_path).file).tracking.wandb is None
    assert spec_with(tmp_path, None).tracking.wandb is None
    assert spec_with(tmp_path, {}).tracking.wandb == spec.WandbSpec(project="go1-sweep", mode="auto")


@pytest.mark.parametrize(
    ("wandb", "problem"),
    [
        (True, "tracking.wandb: expected a mapping of keys to values, not true"),
        ({"mode": "on"}, "tracking.wandb.mode: expected 'auto', 'online' or 'offline', not 'on'"),
        ({"projekt": "a"}, "tracking.wandb.projekt: unknown key; did you mean 'project'?"),
        (
            {"project": "a/b"},
            "tracking.wandb.project: W&B takes at most 128 letters, and none of / \\ # ? % :, not 'a/b'",
        ),
        ({"group": "g" * 129}, "tracking.wandb.group: W&B takes at most 128 letters"),
        ({"entity": 7}, "tracking.wandb.entity: expected text, not 7 (in quotes it is text)"),
        ({"base_url": "wandb.org"}, "tracking.wandb.base_url: expected an address such as https://wandb.example.org"),
        ({"base_url": f"https://user:{KEY}@wandb.org"}, "tracking.wandb.base_url: expected an address such as https"),
    ],
)
def test_a_wrong_entry_is_told_with_its_place(tmp_path, wandb, problem):
    with pytest.raises(BadInput) as caught:
        spec_with(tmp_path, wandb)
    assert f": {problem}" in str(caught.value)
    assert KEY not in str(caught.value)


def test_where_wandb_is_not_installed_auto_warns_and_the_other_modes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(follower.importlib.util, "find_spec", lambda name: None)
    (warning,) = follower.warnings(spec_with(tmp_path, {}))
    assert warning.startswith("tracking.wandb: nothing goes to W&B, since the package wandb is not installed: python")
    for mode in ("online", "offline"):
        with pytest.raises(BadInput, match=r"tracking\.wandb: the package wandb is not installed: python -m pip"):
            follower.warnings(spec_with(tmp_path, {"mode": mode}))
    assert follower.warnings(spec_with(tmp_path, None)) == []
