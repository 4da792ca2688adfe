"""Bad input: one clear sentence, the right exit code, and nothing of an earlier sweep is touched."""

from __future__ import annotations

import errno
import signal
import subprocess
from pathlib import Path

import pytest

from go1_sweep import cli, doctor, errors, simulators, spec
from go1_sweep.sweep import preflight, results
from go1_sweep.worker import lookup

ADAPTIVE = "warning: search.parameters.learning_rate: under the adaptive schedule this searches next to nothing."


def refused(arguments: list[str], capsys) -> str:
    """Run the command in this process; it must refuse with exit code 2 and one message."""
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    return said


def test_an_unknown_command_is_refused_with_a_guess(capsys):
    assert "unknown command 'rnu'; did you mean 'run'?" in refused(["rnu", "x.yaml"], capsys)


def test_no_command_at_all_is_refused(capsys):
    assert "name a command" in refused([], capsys)


def test_an_unknown_flag_is_refused(capsys):
    assert "--fast" in refused(["run", "x.yaml", "--fast"], capsys)


def test_a_missing_sweep_file_is_refused(capsys):
    assert "no/such.yaml: no such file" in refused(["validate", "no/such.yaml"], capsys)


def test_flags_are_taken_with_dashes_and_with_underscores(sweep, capsys):
    for flag in ("--dry-run", "--dry_run"):
        assert "search.trials" in refused(["run", str(sweep().file), flag, "--set", "search.trials=0"], capsys)


def test_a_folder_that_is_no_sweeps_is_never_written_into(sweep, capsys):
    existing = sweep()
    existing.folder.mkdir(parents=True)
    (existing.folder / "result.json").write_text("precious")
    said = refused(["run", str(existing.file)], capsys)
    assert f"{existing.folder} exists already, and is no sweep's folder" in said
    assert [(p.name, p.read_text()) for p in existing.folder.iterdir()] == [("result.json", "precious")]


def test_an_unknown_task_is_refused_by_validate_with_what_there_is(sweep, capsys):
    said = refused(["validate", str(sweep(task="flatt").file)], capsys)
    assert "fake has no task 'flatt' (did you mean 'flat'?); it has rough, flat," in said
    assert "Fake-Rough-Unitree-Go1" in said


def test_a_parameter_that_the_task_does_not_have_is_refused_with_its_place(sweep, capsys):
    search = {"trials": 1, "parameters": {"learning_rate": {"uniform": [1e-3, 2e-3]}}, "fixed": {"agent.gamma": 0.9}}
    said = refused(["validate", str(sweep(search=search).file)], capsys)
    assert "search.fixed.agent.gamma: agent.gamma: the configuration has no 'gamma' there" in said


def test_an_entry_that_is_named_twice_is_refused_before_a_trial_finds_out(sweep, capsys):
    search = {"trials": 1, "parameters": {"num_envs": {"choice": [8, 16]}}, "fixed": {"env.num_envs": 8}}
    said = refused(["validate", str(sweep(search=search).file)], capsys)
    assert "search: env.num_envs and num_envs are the same entry of the configuration: name it one way" in said


def test_validate_warns_of_a_rate_that_is_searched_under_the_adaptive_schedule(sweep, capsys):
    """The task itself says that its schedule is adaptive: the sweep file does not name it."""
    assert cli.main(["validate", str(sweep().file)]) == 0
    assert ADAPTIVE in capsys.readouterr().out


def test_validate_says_what_the_task_is(sweep, capsys):
    assert cli.main(["validate", str(sweep().file)]) == 0
    assert "Fake-Flat-Unitree-Go1 on fake" in capsys.readouterr().out


def test_without_a_simulator_the_command_that_installs_one_is_named(sweep, monkeypatch):
    monkeypatch.setattr(lookup.importlib.util, "find_spec", lambda name: None)
    for name in ("auto", "mjlab"):
        with pytest.raises(errors.BadInput, match=r"pip install 'go1_sweep\[mjlab\]'"):
            preflight.with_simulator(spec.load(sweep(simulator=name).file))


def test_an_interpreter_without_the_simulator_is_refused_with_its_last_words(sweep, tmp_path):
    empty = tmp_path / "venv"
    subprocess.run(["python3", "-m", "venv", "--without-pip", str(empty)], check=True)
    python = {"python": str(empty / "bin" / "python3")}
    with pytest.raises(
        errors.BadInput, match=r"(?s)the simulator mjlab does not start: .* exit code 1.*No module named"
    ):
        preflight.check(spec.load(sweep(simulator="mjlab", mjlab=python).file))


def test_a_gpu_where_there_is_none_is_refused_and_leaves_nothing(sweep):
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    wanting = sweep(resources={"gpus": 1})
    code, _, err = wanting.run()
    assert code == 2
    assert "resources.gpus: each trial wants 1 GPU, and none was found" in err
    assert "--set resources.gpus=0" in err
    assert not wanting.folder.exists()


def test_a_storage_that_is_no_folder_is_refused(sweep, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.BadInput, match="cannot be written: Not a directory"):
        results.make_folder(spec.load(sweep(storage=str(tmp_path / "file" / "runs")).file))


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 32 kB, made read-only or filled by the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_storage_is_refused_and_leaves_nothing(sweep, tiny_disk):
    (tiny_disk / "filling").write_bytes(b"x" * 32768)
    code, _, err = sweep(storage=str(tiny_disk)).run()
    assert code == 2
    assert "cannot be written: No space left on device" in err
    assert [path.name for path in tiny_disk.iterdir()] == ["filling"]


def test_a_read_only_storage_is_refused(sweep, tiny_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(errors.BadInput, match="cannot be written: Read-only file system"):
        results.make_folder(spec.load(sweep(storage=str(tiny_disk)).file))


def test_a_dry_run_warns_says_what_it_may_cost_and_leaves_nothing(sweep):
    dry = sweep(budget={"unit": "train_seconds", "max": 1800})
    code, out, _ = dry.run("--dry-run")
    assert code == 0
    assert ADAPTIVE in out
    assert "4 x 1800 s = 2 hours of training" in out
    assert not dry.folder.exists()


@pytest.mark.parametrize("name", list(simulators.SIMULATORS))
def test_every_simulator_that_can_be_named_can_be_loaded_or_says_how_to_install_it(name):
    entry = simulators.SIMULATORS[name]
    assert entry.install.startswith(("pip install", "https://"))
    if lookup.importlib.util.find_spec(entry.requires):
        assert simulators.load(name).name == name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_moment_ends_a_command_with_130(monkeypatch, capsys, number):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    monkeypatch.setattr(doctor, "examine", lambda *arguments: signal.raise_signal(number))
    try:
        assert cli.main(["doctor"]) == 130
    finally:
        signal.signal(signal.SIGHUP, before)
    assert capsys.readouterr().err == "go1_sweep: interrupted\n"


def test_a_disk_without_room_for_a_temporary_file_is_an_error_of_one_line(monkeypatch, capsys):
    def full(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(doctor, "examine", full)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == (
        "error: FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp']\n"
    )
