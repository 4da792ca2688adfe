"""W&B has of a sweep what its folder has, and no server, key or kill of W&B's side changes the sweep."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import MARK, SMALL, Command, Sweep, by_trial, start, table, wait_for, write_sweep
from wandb_files import Run, runs
from wandb_server import Server, hanging, serving

from go1_sweep import spec, trials_table
from go1_sweep.errors import BadInput
from go1_sweep.paths import BASELINE, SweepPaths, TrialPaths, write_atomically
from go1_sweep.sweep import resume
from go1_sweep.tracking import follower
from go1_sweep.tracking.follower import END_SECONDS, KILL_SECONDS
from go1_sweep.tracking.rows import Rows

KEY = "0123456789abcdef" * 2 + "01234567"
WANDB = {"project": "go1-tests", "mode": "auto"}
FEW = {"search": {**SMALL["search"], "trials": 2}}


def told(sweep: Sweep) -> dict[str, Run]:
    """The runs by name, as W&B's own files have them."""
    return runs(SweepPaths(sweep.folder).wandb)


def of_trials(sweep: Sweep) -> dict[str, Run]:
    return {name: run for name, run in told(sweep).items() if run.record.job_type == "trial"}


def metrics(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Those in rows of W&B's, without W&B's own."""
    return [{name: each for name, each in row.items() if not name.startswith("_")} for row in rows]


def logged(sweep: Sweep, trial: str) -> list[dict[str, float]]:
    """What ``logs.csv`` and ``progress.jsonl`` have of a trial."""
    lines = TrialPaths(sweep.folder / "trials" / trial).progress.read_text().splitlines()
    scores = [{} if (score := json.loads(line)["score"]) is None else {"score": score} for line in lines]
    rows = [{name: float(cell) for name, cell in row.items() if cell} for row in sweep.logs(trial)]
    return [row | score for row, score in zip(rows, scores, strict=True)]


@dataclass
class Finished:
    sweep: Sweep
    out: str

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(SweepPaths(self.sweep.folder).result.read_text())

    @property
    def winner(self) -> str:
        return self.result["winner"]["trial"]


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
            assert metrics(run.history) == logged(finished.sweep, trial)
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
    (said,) = re.findall(r"W&B: (.*)", finished.out)
    assert said.startswith("offline; to upload its runs afterwards: wandb sync ")
    with serving() as server:
        upload(said, finished.sweep.file.parent, WANDB_BASE_URL=server.address)
    has_all(server, finished.sweep)


def upload(said: str, folder: Path, **settings: str) -> None:
    """Type the command at the end of what was said."""
    subprocess.run(
        re.search(r"(WANDB_BASE_URL=\S+ )?wandb sync .*", said)[0],  # pyright: ignore[reportOptionalSubscript]
        shell=True,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            **settings,
        },
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=120,
    )


def has_all(server: Server, sweep: Sweep) -> None:
    """The server has all of the sweep, and nothing twice."""
    found = {run_id.partition("-")[2]: (run_id, run) for run_id, run in server.runs.items()}
    paths, rows = SweepPaths(sweep.folder), sweep.trials()
    result = json.loads(paths.result.read_text())
    assert set(found) == {"sweep", *rows, *retrained(sweep)}
    assert all(run.is_over and not run.changed for _, run in found.values())
    for trial, row in rows.items():
        _, run = found[trial]
        theirs = logged(sweep, trial) if run.history else []
        assert metrics(run.history) == theirs
        assert run.tags[-1] == row["state"]
        assert run.summary["why"] == row["why"]
        assert run.summary.get("mean_reward") == (theirs[-1]["mean_reward"] if theirs else None)
    run_id, run = found["sweep"]
    assert run.summary["verdict"] == result["verdict"]["sentence"]
    for whose, film in (("winner", paths.best.video), ("baseline", paths.best.baseline_video)):
        assert server.files[f"{run_id}/{run.summary[f'video of the {whose}']['path']}"] == film.read_bytes()
    assert {"trials", "exam", "Learning curves"} <= set(run.summary)
    shown = [each["path"] for each in run.summary.values() if isinstance(each, dict) and "path" in each]
    assert {f"{run_id}/{path}" for path in shown} <= set(server.files)
    made = [(place, each) for place, each in enumerate(server.artifacts) if each["artifactTypeName"] == "policy"]
    ((place, policy),) = made
    assert policy["runName"].partition("-")[2] == result["winner"]["trial"]
    assert server.files[f"{place}/policy.onnx"] == paths.best.onnx.read_bytes()


@pytest.mark.parametrize(
    ("machine", "mode", "is_set_up"),
    [("api.wandb.ai", "online", True), ("api.wandb.ai", "offline", False), ("example.org", "online", False)],
)
def test_auto_is_online_where_wandb_finds_a_key_for_its_server_and_is_not_set_up_otherwise(
    tmp_path, machine, mode, is_set_up
):
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {machine}\nlogin user\npassword {KEY}\n")
    netrc.chmod(0o600)
    asked = "from go1_sweep.tracking.wandb_runs import _is_set_up; print(_is_set_up())"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={**os.environ, "NETRC": str(netrc), "WANDB_MODE": mode},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{is_set_up}\n", done.stderr


def untold(finished: Finished, folder: Path, *, is_small: bool = True, **wandb: Any) -> Sweep:
    """The sweep that ended well, as if W&B had been told nothing; a small one has the winner's trial and no other."""
    sweep = Sweep(finished.sweep.file, folder / "sweep")
    shutil.copytree(finished.sweep.folder, sweep.folder, ignore=shutil.ignore_patterns("wandb"))
    paths = SweepPaths(sweep.folder)
    content = yaml.safe_load(paths.spec.read_text())
    paths.spec.write_text(yaml.safe_dump({**content, "tracking": {"wandb": {**WANDB, **wandb}}}))
    if is_small:
        shutil.rmtree(paths.retrained.folder)
        winner = [record for record in trials_table.read(paths) if record.trial == finished.winner]
        trials_table.write(paths, winner, ["learning_rate", "num_envs"])
    return sweep


DRIVER = """
import sys
from pathlib import Path
from go1_sweep import spec
from go1_sweep.paths import SweepPaths
from go1_sweep.tracking.follower import followed

paths = SweepPaths(Path(sys.argv[1]))
with followed(spec.load(paths.spec), paths, print):
    sys.stdin.read()
"""

AT_ONCE = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}
"""W&B's client sends rows every so many seconds, 15 where nothing is said."""


def follow(sweep: Sweep, **settings: str) -> Command:
    """Start a process that has the folder followed as a driver has, and is over when its stdin is."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, sweep.folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(settings or {"WANDB_API_KEY": KEY}), **AT_ONCE, MARK: mark},
    )
    return Command(process, mark)


def end(*drivers: Command) -> list[list[str]]:
    """Let all of them come to their end, which takes no longer than a follower may; what each has said."""
    began = time.monotonic()
    for driver in drivers:
        assert driver.process.stdin
        driver.process.stdin.close()
        driver.process.stdin = None
    said = []
    for driver in drivers:
        code, out, err = driver.finish()
        assert (code, err) == (0, "")
        said.append(out.splitlines())
    assert time.monotonic() - began < END_SECONDS + KILL_SECONDS
    return said


def test_with_a_key_in_netrc_it_is_online_and_the_key_stands_in_no_file_of_the_sweep(finished, tmp_path):
    netrc = tmp_path / "netrc"
    with serving() as server:
        netrc.write_text(f"machine {server.address.removeprefix('http://')}\nlogin user\npassword {KEY}\n")
        netrc.chmod(0o600)
        sweep = untold(finished, tmp_path, is_small=False, base_url=server.address, group="a group")
        paths = SweepPaths(sweep.folder)
        mattered = [{"budget": 1536, "trials": 5, "parameters": {"learning_rate": 0.9, "num_envs": 0.1}}]
        paths.result.write_text(json.dumps({**finished.result, "importances": mattered}))
        driver = follow(sweep, NETRC=str(netrc))
        wait_until_up(server, {*sweep.trials(), *retrained(sweep)})
        (said,) = end(driver)
    (sweeps_own,) = (run_id for run_id in server.runs if run_id.endswith("-sweep"))
    assert said == [f"W&B: {server.address}/me/go1-tests/runs/{sweeps_own}"]
    has_all(server, sweep)
    assert f"{sweeps_own}/{server.runs[sweeps_own].summary['Which parameter mattered']['path']}" in server.files
    assert {run.group for run in server.runs.values()} == {"a group"}
    assert server.uses == [(sweeps_own, "sweep-policy")], "the lineage, of which only a server can hear"
    assert paths.wandb_log.read_text() == "", "nothing went wrong"
    assert holding(KEY, sweep) == []


def wait_until_up(server: Server, trials: set[str]) -> None:
    def up() -> set[str]:
        return {run_id.partition("-")[2] for run_id, run in list(server.runs.items()) if run.is_over}

    wait_for(lambda: trials <= up(), 90, f"all of {trials} at the server")


def holding(text: str, sweep: Sweep) -> list[Path]:
    return [path for path in sweep.folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def assert_whole(sweep: Sweep, state: str = "completed") -> None:
    """W&B's files have each iteration of each trial once, how the trial ended, and what came of the sweep."""
    found = told(sweep)
    assert set(found) == {"sweep", *sweep.trials()}
    for trial, run in of_trials(sweep).items():
        assert [row["_step"] for row in run.history] == sweep.iterations(trial)
        assert run.tags[-1] == state
    assert found["sweep"].summary["phase"] == ("finished" if state == "completed" else state)


def test_a_server_that_hangs_neither_slows_nor_ends_a_trial(tmp_path):
    with hanging() as address:
        sweep = write_sweep(tmp_path, **FEW, tracking={"wandb": {**WANDB, "mode": "online", "base_url": address}})
        code, out, err = start("run", str(sweep.file), env={"WANDB_API_KEY": KEY}).finish()
        ended = time.time()
    assert (code, err) == (0, "")
    report_seconds = 15
    assert ended - SweepPaths(sweep.folder).result.stat().st_mtime < END_SECONDS + KILL_SECONDS + report_seconds
    (said,) = re.findall("W&B: (.*)", out)
    assert f"to upload them afterwards: WANDB_BASE_URL={address} wandb sync {sweep.folder / 'wandb'}" in said
    assert {row["state"] for row in sweep.trials().values()} == {"completed"}
    assert_whole(sweep)
    assert holding(KEY, sweep) == [] and KEY not in out


def test_where_nobody_listens_all_stays_in_the_folder(finished, tmp_path):
    sweep = untold(finished, tmp_path, mode="online", base_url="http://127.0.0.1:9")
    ((said,),) = end(follow(sweep))
    assert f"to upload them afterwards: WANDB_BASE_URL=http://127.0.0.1:9 wandb sync {sweep.folder / 'wandb'}" in said
    assert_whole(sweep)


FAILURES: dict[str, Callable[[str, dict[str, Any]], int | str | None]] = {
    "nobody listens": lambda operation, given: None,
    "HTTP 500": lambda operation, given: 500 if operation == "RunResumeStatus" else None,
    "no run": lambda operation, given: "no more runs" if operation == "UpsertBucket" else None,
    "no policy": lambda operation, given: "no more room" if _is_policy(operation, given) else None,
}


def _is_policy(operation: str, given: dict[str, Any]) -> bool:
    return operation == "CreateArtifact" and given["input"]["artifactTypeName"] == "policy"


@dataclass
class Failed:
    sweep: Sweep
    server: Server
    said: list[str]


@pytest.fixture(scope="module")
def failed(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Failed]]:
    """Sweeps whose servers failed when all but their results was told; side by side, as they wait most of the time."""
    with contextlib.ExitStack() as stack:
        servers = {failure: stack.enter_context(serving()) for failure in FAILURES}
        sweeps = {
            failure: untold(finished, tmp_path_factory.mktemp("failed"), base_url=server.address)
            for failure, server in servers.items()
        }
        drivers = [follow(sweep) for sweep in sweeps.values()]
        for failure, server in servers.items():
            wait_until_up(server, {finished.winner})
            server.failing = FAILURES[failure]
        servers["nobody listens"].stop()
        said = dict(zip(FAILURES, end(*drivers), strict=True))
        yield {failure: Failed(sweeps[failure], servers[failure], said[failure]) for failure in FAILURES}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_a_server_does_not_take_at_the_end_is_in_the_folder_until_the_command_uploads_it(
    finished, failed, failure, tmp_path
):
    sweep, server, (address, offline) = failed[failure].sweep, failed[failure].server, failed[failure].said
    paths = SweepPaths(sweep.folder)
    assert address.startswith(f"W&B: {server.address}")
    assert f"; its runs stay in {paths.wandb} from here on; to upload them afterwards: " in offline

    kept, best = runs(paths.wandb, "offline-"), paths.best
    assert set(kept) == {"sweep", finished.winner}
    assert kept["sweep"].summary["verdict"] == finished.result["verdict"]["sentence"]
    for key in ("trials", "exam", "Learning curves"):
        assert kept["sweep"].media(key)
    for whose, film in (("winner", best.video), ("baseline", best.baseline_video)):
        assert [file.read_bytes() for file in kept["sweep"].media(f"video of the {whose}")] == [film.read_bytes()]
    assert [each.name for each in kept[finished.winner].artifacts] == ["sweep-policy"]

    server.failing = lambda operation, given: None
    if not server.is_listening:
        server.start()
    upload(offline, tmp_path)
    has_all(server, sweep)


def test_what_a_slow_server_has_no_time_for_at_the_end_is_in_the_folder_until_the_command_uploads_it(
    finished, tmp_path
):
    with serving() as server:
        server.delay = 0.5
        sweep = untold(finished, tmp_path, is_small=False, base_url=server.address)
        ((_, offline),) = end(follow(sweep))
        assert "the sweep is over, and there is more to upload than its end has time for" in offline
        up = {run_id.partition("-")[2] for run_id in server.runs}
        kept = runs(SweepPaths(sweep.folder).wandb, "offline-")
        assert {"sweep"} < up and {"sweep", finished.winner} < set(kept)
        assert up | set(kept) == {"sweep", *sweep.trials(), *retrained(sweep)}
        server.delay = 0.0
        upload(offline, tmp_path)
        has_all(server, sweep)
        assert all(run.lines == len(run.history) for run in server.runs.values()), "each line came once"


def unfinished(sweep: Sweep, trial: str) -> Callable[[], None]:
    """Turn it into one whose trial is at its third iteration; what is returned lets both come to their end."""
    paths = SweepPaths(sweep.folder)
    logs, progress = paths.trial(trial).logs, paths.trial(trial).progress
    ends = {file: file.read_text() for file in (logs, progress, paths.trials_table, paths.result)}
    for file, lines in ((logs, 4), (progress, 3)):
        file.write_text("".join(ends[file].splitlines(keepends=True)[:lines]))
    records = trials_table.read(paths)
    for record in records:
        if record.trial == trial:
            record.state, record.why = "running", ""
            record.progress = dataclasses.replace(record.progress, iterations=3)
    trials_table.write(paths, records, ["learning_rate", "num_envs"])
    paths.result.unlink()

    def go_on() -> None:
        for file, text in ends.items():
            write_atomically(file, text)

    return go_on


def test_what_a_server_that_falls_silent_has_not_taken_is_in_the_folder_though_the_driver_is_killed(finished, tmp_path):
    with serving() as server, serving() as another:
        ended = untold(finished, tmp_path / "ended", base_url=server.address)
        killed = untold(finished, tmp_path / "killed", base_url=another.address)
        go_on, go_on_later = (unfinished(sweep, finished.winner) for sweep in (ended, killed))
        driver, victim = follow(ended), follow(killed)
        for each in (server, another):
            wait_for(lambda each=each: any(run.history for run in list(each.runs.values())), 90, "an iteration")
            each.is_silent = True
        victim.process.kill()
        go_on()
        ((address, offline),) = end(driver)
        assert address.startswith(f"W&B: {server.address}")
        assert f"wandb sync --include-online {ended.folder / 'wandb'}" in offline
        assert_whole(ended)
        server.is_silent = False
        upload(offline, tmp_path)
        has_all(server, ended)

        victim.finish()  # no process is left
        assert_whole(killed, "interrupted")
        another.is_silent = False
        go_on_later()
        ((left,),) = end(follow(killed))
        assert left.startswith("W&B: what began offline goes on offline; to upload it afterwards: WANDB_BASE_URL=")
        upload(left, tmp_path)
        has_all(another, killed)


def test_a_follower_that_is_killed_disturbs_nothing_and_the_next_one_tells_what_it_had_not(finished, tmp_path):
    with serving() as server:
        sweep = untold(finished, tmp_path, is_small=False, mode="offline", base_url=server.address)
        paths, go_on = SweepPaths(sweep.folder), unfinished(sweep, finished.winner)
        driver = follow(sweep)
        wait_for(lambda: set(folders(paths)) == {"sweep", finished.winner}, 90, "all but what is open")
        (process,) = (each for each in driver.descendants() if "wandb_follower" in " ".join(each.cmdline()))
        process.kill()
        ((offline, ended),) = end(driver)
        assert ended == f"W&B: its follower ended with an error; see {paths.wandb_log}"
        upload(offline, tmp_path)
        up = {run_id.partition("-")[2] for run_id in server.runs}
        assert up == {*sweep.trials(), *retrained(sweep)} - {finished.winner}, "all that was closed"

        go_on()
        end(follow(sweep))
        upload(offline, tmp_path)
        has_all(server, sweep)


def folders(paths: SweepPaths) -> dict[str, str]:
    """Those of open runs, as the follower remembers them."""
    return json.loads(paths.wandb_state.read_text())["folders"] if paths.wandb_state.exists() else {}


def test_tracking_may_change_from_one_start_of_a_sweep_to_the_next(finished):
    file = SweepPaths(finished.sweep.folder).spec
    before, now = spec.load(file), spec.load(file, ["tracking.wandb=null"])
    resume.refuse_changes(before, now)
    assert resume.is_done(before, now)


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
