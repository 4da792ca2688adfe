"""``python -m go1_sweep train``: rsl_rl's folders, going on from checkpoints, giving way to memory."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Command, logs, start, wait_for
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_play import older

from go1_sweep import checkpoint, interrupts, protocol, simulators
from go1_sweep.paths import TrialPaths
from go1_sweep.single_run import folders
from go1_sweep.single_run.progress_line import GIB, ProgressLine
from go1_sweep.trial import torch_settings
from go1_sweep.trial.resume import infos, read_start, resume
from go1_sweep.trial.runner import runner_of

FAKE = ("--simulator", "fake", "--task", "flat", "--num_envs", "16", "--cpu")
GO1 = ("--task", "flat", "--num_envs", "4", "--max_iterations", "8", "--cpu")


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Command]:
    """Starts the command in a folder of its own."""
    return lambda *arguments: start("train", *arguments, cwd=tmp_path)


def runs(folder: Path) -> list[Path]:
    return sorted((folder / "logs" / "rsl_rl").glob("*/*"))


def column(run: Path, name: str) -> list[str]:
    return [row[name] for row in logs(run)]


def counted(iterations: int) -> list[str]:
    return [str(i) for i in range(1, iterations + 1)]


def wait_for_rows(folder: Path, rows: int, seconds: float) -> Path:
    wait_for(lambda: runs(folder) and len(column(runs(folder)[0], "iteration")) >= rows, seconds, f"{rows} rows")
    return runs(folder)[0]


def kill(command: Command) -> None:
    """Kill the driver, which takes its worker along."""
    command.process.kill()
    command.finish()


def test_a_run_is_where_rsl_rl_users_look_and_resume_goes_on_with_the_newest(train, tmp_path):
    code, out, err = train(*FAKE, "--max_iterations", "3", "--seed", "5").finish()
    assert (code, err) == (0, "")
    (run,) = runs(tmp_path)
    assert run.parent.name == "fake"
    assert datetime.strptime(run.name, folders.STAMP)
    assert {"config.yaml", "logs.csv", "model_3.pt"} <= {path.name for path in run.iterdir()}
    assert list(run.glob("events.out.tfevents*"))
    assert f"python -m go1_sweep play --checkpoint {run.relative_to(tmp_path)}/model_3.pt" in out
    code, out, err = train(
        "--simulator", "fake", "--task", "flat", "--resume", "--max_iterations", "6", "--cpu"
    ).finish()
    assert (code, err) == (0, "")
    assert runs(tmp_path) == [run]
    assert column(run, "iteration") == counted(6)
    assert column(run, "env_steps") == [str(16 * 8 * i) for i in range(1, 7)]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["seed"], config["parameters"]["num_envs"], config["budget_max"]) == (5, 16, 6)
    rewards = [float(reward) for reward in column(run, "mean_reward")[1:]]
    assert rewards == sorted(rewards)  # the fake's curriculum went on as well
    events = EventAccumulator(str(run)).Reload().Scalars("Loss/value")
    assert [event.step for event in events] == list(range(6))
    code, out, err = train("--simulator", "fake", "--task", "flat", "--resume", "--cpu").finish()
    assert (code, err) == (0, "")
    assert "model_6.pt has 6 of 6 iterations: nothing left to do" in out


def test_ctrl_c_ends_the_iteration_saves_a_checkpoint_and_prints_the_command_that_goes_on(train, tmp_path):
    command = train(*FAKE, "--max_iterations", "40", "--set", "env.step_seconds=0.02")
    run = wait_for_rows(tmp_path, 2, 60)
    os.killpg(command.process.pid, signal.SIGINT)
    code, _, err = command.finish()
    assert code == 130
    done = len(column(run, "iteration"))
    assert TrialPaths(run).checkpoints()[-1].name == f"model_{done}.pt"
    go_on = re.search(r"go on: python -m go1_sweep (.*)$", err)
    assert go_on, err
    code, _, err = start(*shlex.split(go_on[1]), "--set", "env.step_seconds=0", cwd=tmp_path).finish()
    assert (code, err) == (0, "")
    assert column(run, "iteration") == counted(40)
    assert runs(tmp_path) == [run]


def test_a_terminal_that_hangs_up_ends_training_as_ctrl_c_does(train, tmp_path):
    command = train(*FAKE, "--set", "env.step_seconds=0.02")
    run = wait_for_rows(tmp_path, 2, 60)
    for _ in range(2):  # by the kernel, and by the shell
        os.killpg(command.process.pid, signal.SIGHUP)
    code, _, err = command.finish()
    assert code == 130
    assert TrialPaths(run).checkpoints()[-1].name == f"model_{len(column(run, 'iteration'))}.pt"
    assert "go on: python -m go1_sweep train" in err


def test_a_stop_is_asked_for_before_it_is_said(monkeypatch):
    done: list[str] = []

    class AtOnce:
        def __init__(self, target: Callable[[], None], daemon: bool) -> None:
            self.start = target

    monkeypatch.setattr(interrupts.threading, "Thread", AtOnce)
    with interrupts.twice(lambda: done.append("stopped"), lambda: done.append("said")):
        signal.raise_signal(signal.SIGTERM)
    assert done == ["stopped", "said"]


def test_a_second_ctrl_c_waits_for_the_end_of_a_transaction():
    done: list[str] = []

    def transaction() -> str:
        signal.raise_signal(signal.SIGINT)
        done.append("committed")
        return "result"

    with interrupts.twice(lambda: done.append("stopped"), lambda: None):
        assert interrupts.held(transaction) == "result"
        assert done == ["committed", "stopped"]
        with pytest.raises(KeyboardInterrupt):
            interrupts.held(transaction)
        assert done == ["committed", "stopped", "committed"]


def test_nohup_keeps_training_deaf_to_a_terminal_that_hangs_up(monkeypatch):
    monkeypatch.setattr(signal, "SIGHUP", signal.SIGUSR1)  # pytest itself has a terminal
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.twice(lambda: pytest.fail("stopped"), lambda: None):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_ends_at_once(train, tmp_path):
    command = train(*FAKE, "--set", "env.fault=hang")
    wait_for_rows(tmp_path, 1, 60)
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.process.stdout
    assert any("stopping after this iteration" in line for line in command.process.stdout)
    os.killpg(command.process.pid, signal.SIGINT)
    code, _, err = command.finish(60)
    assert code == 130
    assert err == "go1_sweep: interrupted; no checkpoint was saved yet\n"


def test_memory_that_does_not_suffice_halves_the_envs(train, tmp_path):
    code, out, err = train(*FAKE[:-3], "--num_envs", "20000", "--max_iterations", "2", "--cpu").finish()
    assert (code, err) == (0, "")
    assert "20000 envs do not fit" in out
    assert "10000 envs do not fit" in out
    assert "going on with 5000" in out
    (run,) = runs(tmp_path)
    assert column(run, "env_steps") == [str(5000 * 8), str(5000 * 8 * 2)]
    assert yaml.safe_load((run / "config.yaml").read_text())["parameters"]["num_envs"] == 5000


def test_halving_ends_at_64_envs_with_the_number_that_would_fit(train, tmp_path):
    few = ("--num_envs", "40", "--max_iterations", "2", "--cpu", "--set", "env.memory_envs=11")
    code, out, err = train(*FAKE[:-3], *few).finish()
    assert (code, out.count("going on with")) == (1, 0)
    assert err.startswith("error: not even 40 envs fit")
    assert err.endswith("; 10 would fit (--num_envs 10), which teach PPO next to nothing\n")
    (run,) = runs(tmp_path)
    assert column(run, "iteration") == []


def test_memory_that_runs_out_in_the_middle_leaves_no_gap_and_no_repeat(train, tmp_path):
    faulty = ("--set", "env.fault=oom", "--set", "env.fault_iteration=4", "--set", "save_interval=2")
    code, out, err = train(*FAKE[:-3], "--num_envs", "100", "--max_iterations", "5", "--cpu", *faulty).finish()
    assert code == 1
    assert "100 envs do not fit" in out
    assert "going on with 64" in out
    assert err.startswith("error: not even 64 envs fit")
    assert column(runs(tmp_path)[0], "iteration") == counted(3)


def test_a_checkpoint_in_the_middle_of_a_run_begins_a_new_one_and_overwrites_nothing(train, tmp_path):
    assert train(*FAKE, "--max_iterations", "4", "--set", "save_interval=2").finish()[0] == 0
    (first,) = runs(tmp_path)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    named = ("--checkpoint", str(first / "model_2.pt"), "--max_iterations", "3", "--cpu")
    code, _, err = train(*named).finish()
    assert (code, err) == (0, "")
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    (second,) = set(runs(tmp_path)) - {first}
    assert column(second, "iteration") == counted(3)
    assert column(second, "kl")[:2] == column(first, "kl")[:2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], r"no checkpoint of Fake-Flat-Unitree-Go1 found in logs/rsl_rl/fake; train first, or name one"),
        (["--checkpoint", "model_7.pt"], r"--checkpoint model_7.pt: there is no such file or folder"),
        (["--checkpoint", "."], r"--checkpoint . holds no checkpoint \(model_<n>.pt or checkpoint.pt\)"),
        (["--checkpoint", "notes.txt"], r"notes.txt is no rsl_rl checkpoint: it is damaged, or another kind of file"),
        (["--set", "env.num_envs=8"], r"num_envs and env.num_envs are the same entry of the configuration"),
        (["--set", "agent.seed=7"], r"--set agent.seed: use --seed"),
        (["--set", "entropy_coeff=0.1"], r"--set entropy_coeff: unknown parameter; did you mean 'entropy_coef'\?"),
        (["--set", "learning_rate=fast"], r"--set learning_rate: expected a number"),
        (
            ["--set", "env.nmu_envs=3"],
            r"env.nmu_envs: the configuration has no 'nmu_envs' there; did you mean 'num_envs'",
        ),
        (["--task", "flatt"], r"fake has no task 'flatt' \(did you mean 'flat'\?\)"),
        (["--device", "gpu"], r"--device: expected auto, cpu, cuda or cuda:<n>, not 'gpu'"),
        (["--max_iteration", "5"], r"train takes no '--max_iteration'; did you mean '--max-iterations'\?"),
        (["--num_envs", "0"], r"argument --num-envs: expected a whole number of at least 1, not '0'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(train, tmp_path, arguments, message):
    (tmp_path / "notes.txt").write_text("no checkpoint")
    code, _, err = train("--simulator", "fake", "--task", "flat", *arguments).finish()
    assert code == 2
    assert re.search(message, err)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "logs").exists()


def test_a_checkpoint_of_an_older_rsl_rl_is_trained_further_from_its_iteration(train, tmp_path):
    assert train(*FAKE, "--max_iterations", "2").finish()[0] == 0
    content = torch.load(runs(tmp_path)[0] / "model_2.pt", weights_only=True)
    torch.save(older(content | {"infos": None}, rsl_rl=3), tmp_path / "old.pt")
    (tmp_path / "x[bold]").mkdir()
    (tmp_path / "old.pt").rename(tmp_path / "x[bold]" / "model_2.pt")
    code, out, err = train(*FAKE, "--checkpoint", "x[bold]", "--max_iterations", "4").finish()
    assert (code, err) == (0, "")
    assert "from x[bold]/model_2.pt" in out
    assert column(runs(tmp_path)[1], "iteration") == ["3", "4"]


def test_training_can_be_watched_in_a_browser(tmp_path):
    pytest.importorskip("mjlab")
    no_screen = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    command = start("train", *GO1, "--gui", "--set", "num_steps_per_env=2", cwd=tmp_path, env=no_screen)
    assert command.process.stdout
    said: list[str] = []
    while not (address := re.search(r"http://127\.0\.0\.1:\d+", "".join(said))):
        said.append(command.process.stdout.readline())
        assert said[-1], said
    assert "warning: showing the training slows it down" in "".join(said)
    wait_for_rows(tmp_path, 1, 120)
    with urllib.request.urlopen(address[0], timeout=20) as page:
        assert b"<html" in page.read()
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.finish()[0] == 130


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="there is a GPU here")
def test_without_a_gpu_training_says_so_and_a_gpu_that_was_asked_for_is_an_error(train, tmp_path):
    small = ("--simulator", "fake", "--task", "flat", "--num_envs", "16", "--max_iterations", "1")
    code, out, err = train(*small).finish()
    assert (code, err) == (0, "")
    assert "warning: there is no NVIDIA GPU on this machine: training on the CPU" in out
    code, _, err = train(*small, "--device", "cuda").finish()
    assert (code, err) == (2, "error: --device cuda: there is no NVIDIA GPU on this machine\n")


def test_a_checkpoint_of_other_observations_is_told_with_both_sizes(train, tmp_path):
    pytest.importorskip("mjlab")
    assert train(*FAKE, "--max_iterations", "1").finish()[0] == 0
    (run,) = runs(tmp_path)
    of_mjlab = ("--simulator", "mjlab", "--num_envs", "2", "--max_iterations", "2", "--cpu")
    code, _, err = train("--checkpoint", str(run / "model_1.pt"), *of_mjlab).finish()
    assert code == 2
    assert err.endswith(
        "model_1.pt takes observations of 3 numbers, and Mjlab-Velocity-Flat-Unitree-Go1 gives 48; "
        "it gives actions of 2 numbers, and Mjlab-Velocity-Flat-Unitree-Go1 takes 12\n"
    )
    assert runs(tmp_path) == [run]


def test_a_checkpoint_that_does_not_fit_leaves_its_run_as_it_was(train, tmp_path):
    assert train(*FAKE, "--max_iterations", "1").finish()[0] == 0
    (run,) = runs(tmp_path)
    before = (run / "config.yaml").read_bytes()
    other_network = ("--max_iterations", "2", "--set", "agent.actor.hidden_dims.0=16", "--cpu")
    code, _, err = train("--simulator", "fake", "--task", "flat", "--resume", *other_network).finish()
    assert code == 2
    assert "'mlp.0.weight' is [8, 3], and [16, 3] is expected" in err
    assert (run / "config.yaml").read_bytes() == before
    assert column(run, "iteration") == ["1"]


def test_a_run_that_is_being_trained_is_left_alone(train, tmp_path):
    slow = ("--max_iterations", "200", "--set", "env.step_seconds=0.02", "--set", "save_interval=1")
    first = train(*FAKE, *slow)
    run = wait_for_rows(tmp_path, 2, 60)
    code, _, err = train("--simulator", "fake", "--task", "flat", "--resume", "--cpu").finish()
    assert code == 2
    assert f"is being trained by process {first.process.pid} on" in err
    os.killpg(first.process.pid, signal.SIGTERM)
    assert first.finish()[0] == 130
    rows = column(run, "iteration")
    assert rows == counted(len(rows))


def test_a_stop_before_memory_runs_out_is_no_reason_to_go_on_with_less(train):
    command = train(*FAKE, "--num_envs", "40000")
    assert command.process.stdout
    assert any("going on with 20000" in line for line in command.process.stdout)
    os.killpg(command.process.pid, signal.SIGINT)
    code, out, err = command.finish(60)
    assert code == 130
    assert "going on with" not in out
    assert err.endswith("; no checkpoint was saved yet\n")


def test_training_goes_on_when_nobody_reads_what_it_says(train, tmp_path):
    command = train(*FAKE, "--max_iterations", "12", "--set", "env.step_seconds=0.02")
    assert command.process.stdout
    command.process.stdout.close()
    assert command.process.wait(120) == 0
    assert command.process.stderr
    assert command.process.stderr.read() == ""
    assert column(runs(tmp_path)[0], "iteration") == counted(12)
    with open("/dev/full", "w") as full:
        silent = [sys.executable, "-m", "go1_sweep", "train", *FAKE, "--max_iterations", "1"]
        done = subprocess.run(silent, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_damaged_newest_checkpoint_and_torn_last_lines_cost_no_more_than_that(train, tmp_path):
    small = ("--max_iterations", "4", "--set", "save_interval=2", "--deterministic")
    assert train(*FAKE, *small).finish()[0] == 0
    (run,) = runs(tmp_path)
    (run / "model_4.pt").write_bytes(b"torn")
    for name in ("logs.csv", "progress.jsonl"):
        text = (run / name).read_text()
        (run / name).write_text(text[: text[:-1].rfind("\n") + 2])  # the first character of the last line
    code, out, err = train("--simulator", "fake", "--task", "flat", "--resume", "--cpu").finish()
    assert (code, err) == (0, "")
    assert "warning" in out
    assert "model_4.pt is no rsl_rl checkpoint" in out
    assert runs(tmp_path) == [run]
    assert column(run, "iteration") == counted(4)
    assert yaml.safe_load((run / "config.yaml").read_text())["deterministic"] is True


def test_killed_in_the_middle_it_goes_on_without_a_gap_or_a_repeat(train, tmp_path):
    pytest.importorskip("mjlab")
    small = ("--set", "save_interval=2", "--set", "num_steps_per_env=4")
    command = train(*GO1, *small)
    run = wait_for_rows(tmp_path, 3, 240)
    kill(command)
    assert int(column(run, "iteration")[-1]) < 8
    seconds = column(run, "train_seconds")
    published = checkpoint.read_manifest(TrialPaths(run))[-1].progress.iterations
    code, _, err = train("--task", "flat", "--resume", "--cpu").finish()
    assert (code, err) == (0, "")
    assert column(run, "iteration") == counted(8)
    assert column(run, "env_steps") == [str(16 * i) for i in range(1, 9)]
    assert column(run, "train_seconds")[:published] == seconds[:published]


@pytest.fixture(scope="module")
def rough():
    """A small rough task of mjlab; terrain takes its time."""
    pytest.importorskip("mjlab")
    simulator = simulators.load("mjlab")

    def build(num_envs: int, seed: int, **parameters):
        config = simulator.load_config(simulator.resolve("rough"))
        simulator.apply(config, {"num_envs": num_envs, "num_steps_per_env": 2, **parameters})
        env = simulator.make_env(config, seed, "cpu")
        return env, simulator.make_runner(env, config, None)

    return simulator, build


def test_all_that_was_learnt_comes_back_on_rough_terrain_levels_included(rough, tmp_path):
    simulator, build = rough
    env, runner = build(num_envs=6, seed=1)
    try:
        runner.learn(2)
        runner.current_learning_iteration = 2
        terrain = env.unwrapped.scene.terrain
        terrain.terrain_levels[:] = torch.tensor([0, 1, 2, 3, 4, 5])
        progress = checkpoint.Progress(iterations=2, env_steps=24, train_seconds=1.5)
        simulator.save(runner, tmp_path / "model_2.pt", infos(simulator, runner, progress))
        trained, rate, steps = runner.alg.save(), runner.alg.learning_rate, env.unwrapped.common_step_counter
        levels, types = terrain.terrain_levels.clone(), terrain.terrain_types.clone()
    finally:
        simulator.close(env)
    env, runner = build(num_envs=6, seed=2)
    try:
        start = read_start(tmp_path / "model_2.pt")
        assert start.progress == progress
        resume(simulator, runner_of(runner), "rough", start)
        terrain = env.unwrapped.scene.terrain
        assert torch.equal(terrain.terrain_levels, levels)
        assert torch.equal(terrain.terrain_types, types)
        robot = env.unwrapped.scene["robot"].data.root_link_pos_w
        origins = terrain.terrain_origins[levels, types]
        assert (robot - origins)[:, :2].norm(dim=1).max() < 1.0  # each stands on the terrain of its level
        assert env.unwrapped.common_step_counter == steps == 4
        assert (runner.alg.learning_rate, runner.current_learning_iteration) == (rate, 2)
        torch.testing.assert_close(runner.alg.save(), trained, rtol=0, atol=0)
    finally:
        simulator.close(env)


def test_another_number_of_envs_takes_over_the_levels_of_each_kind_of_terrain(rough):
    simulator, build = rough
    env, _ = build(num_envs=4, seed=1)
    try:
        types = env.unwrapped.scene.terrain.terrain_types
        kept = {"terrain_types": types.repeat(2), "terrain_levels": types.repeat(2) % 5 + 1}
        simulator.restore_curriculum(env, kept)
        assert torch.equal(env.unwrapped.scene.terrain.terrain_levels, types % 5 + 1)
    finally:
        simulator.close(env)


@pytest.mark.parametrize(("schedule", "rate"), [("adaptive", 5e-4), ("fixed", 2e-3)])
def test_an_adaptive_rate_is_the_checkpoints_and_a_fixed_one_the_configurations(tmp_path, schedule, rate):
    simulator = simulators.load("fake")

    def runner_with(learning_rate: float):
        config = simulator.load_config(simulator.resolve("flat"))
        simulator.apply(config, {"num_envs": 4, "schedule": schedule, "learning_rate": learning_rate})
        return simulator.make_runner(simulator.make_env(config, 1, "cpu"), config, None)

    before = runner_with(1e-3)
    before.alg.learning_rate = before.alg.optimizer.param_groups[0]["lr"] = 5e-4
    simulator.save(before, tmp_path / "model_0.pt", infos(simulator, before, checkpoint.Progress()))
    after = runner_with(2e-3)
    resume(simulator, runner_of(after), "flat", read_start(tmp_path / "model_0.pt"))
    assert after.alg.learning_rate == after.alg.optimizer.param_groups[0]["lr"] == rate


def test_two_runs_of_one_second_get_two_folders_and_the_tenth_is_the_newest(tmp_path):
    while True:
        made = [folders.new_run("go1", tmp_path).folder for _ in range(10)]
        stamps = {path.name[:19] for path in made}
        if len(stamps) == 1:  # else a second ended meanwhile
            break
    assert [run.folder for run in folders.runs("go1", tmp_path)][-10:] == made
    assert len(set(made)) == 10


def test_deterministic_turns_the_trade_round_and_back():
    def settings() -> tuple[object, ...]:
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        precision = matmul.fp32_precision if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
        return precision, cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled()

    torch_settings.configure(deterministic=True)
    exact = settings()
    torch_settings.configure(deterministic=False)
    assert exact[1:] == (False, True, True)
    assert settings()[1:] == (False, False, False)
    assert (exact[0], settings()[0]) in {("ieee", "tf32"), (False, True)}


def report(iteration: int, gpu_memory: list[int]) -> protocol.Report:
    progress = protocol.Progress(iteration, iteration * 1000, iteration * 0.5)
    return protocol.Report("run", progress, {"mean_reward": 12.345, "mean_episode_length": 678.9}, gpu_memory, {})


def test_the_progress_line_says_how_fast_it_goes_and_warns_once_of_memory_that_is_nearly_full():
    written = io.StringIO()
    line = ProgressLine(Console(file=written, soft_wrap=True), max_iterations=3)
    with line.shown(protocol.Progress()):
        for iteration in (1, 2, 3):
            line.report(report(iteration, [GIB * 139, GIB * 140]))
    warning, first, last = written.getvalue().splitlines()
    assert warning.startswith("warning: 139.0 of 140.0 GiB of the GPU's memory are in use")
    figures = "reward 12.35  length 678.9  2,000 steps/s  GPU 139.0 of 140.0 GiB  ETA 0:00:01"
    assert first == f"iteration 1 of 3  {figures}"
    assert last.startswith("iteration 3 of 3")
    assert last.endswith("ETA 0:00:00")
