"""The doctor: what it says of made-up machines, of this one, and of interpreters that do not do as they should."""

from __future__ import annotations

import copy
import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import start

from go1_sweep import cli, doctor, errors, simulators
from go1_sweep.doctor import MISSING, NOTE, OK, Disk, Gpu, Machine
from go1_sweep.trial import probe as trial_probe
from go1_sweep.worker import process
from go1_sweep.worker.probing import NOTHING_FOUND, probe

H200 = Gpu("NVIDIA H200", 143771, "580.159")
SOUND = Machine(
    python=None,
    simulator="auto",
    probed={
        "packages": {"problem": "", "mend": "", "python": "3.11.9", "versions": {"mjlab": "1.6.0", "torch": "2.13.0"}},
        "isaaclab": {"problem": "", "mend": "", "release": ""},
        "torch": {"problem": "", "mend": "", "version": "2.13.0", "cuda": "13.0", "available": True, "devices": ["x"]},
        "graphics": {"problem": "", "mend": "", "renderer": "NVIDIA H200/PCIe/SSE2", "devices": [0, None]},
        "encoder": {"problem": "", "mend": "", "ffmpeg": "/bin/ffmpeg"},
    },
    packages={"ray": "2.60.0", "optuna": "5.0.0"},
    gpus=[H200],
    gpu_problem="",
    storage=Disk(Path("/data"), 10**12),
    shared_memory=Disk(Path("/dev/shm"), 10**10),
)
LINE = re.compile(r"(ok     |note   |missing)  \S.*")


def machine(section: str = "encoder", found: dict | None = None, **changes) -> Machine:
    """A sound machine, with one section of its probe and some fields changed."""
    probed = copy.deepcopy(SOUND.probed)
    probed[section].update(found or {})
    return replace(SOUND, probed=probed, **changes)


def said(made_up: Machine, level: str) -> list[str]:
    return [finding.text() for finding in doctor.findings(made_up) if finding.level == level]


def test_a_sound_machine_misses_nothing():
    assert {finding.level for finding in doctor.findings(SOUND)} == {OK}
    assert "GPU 0: NVIDIA H200: 140 GiB, driver 580.159" in said(SOUND, OK)


def test_a_machine_without_a_gpu_misses_nothing():
    cpu = machine("torch", {"version": "2.13.0+cpu", "cuda": "", "available": False, "devices": []}, gpus=[])
    assert said(cpu, MISSING) == []
    assert said(cpu, NOTE) == ["no NVIDIA GPU: trials run on the CPU"]


@pytest.mark.parametrize(
    ("section", "what"), [("graphics", "EGL (videos)"), ("encoder", "H.264 encoder (videos)"), ("torch", "torch")]
)
def test_what_a_section_of_the_probe_misses_is_said_on_one_line_with_its_mend(section, what):
    lines = said(machine(section, {"problem": "not\n there", "mend": "apt-get install it"}), MISSING)
    assert len(lines) == 1
    assert lines[0].startswith(what)
    assert lines[0].endswith("not there; mend: apt-get install it")


def test_a_gpu_that_torch_does_not_see_is_missing_also_without_a_reason():
    blind = machine("torch", {"available": False, "devices": []})
    assert said(blind, MISSING) == ["torch (training on the GPUs): torch 2.13.0 sees none of them"]


def test_a_gpu_without_its_driver_is_missing():
    bare = machine("torch", {"available": False, "devices": []}, gpus=[], gpu_problem="nvidia-smi fails: no driver")
    assert [line.partition(";")[0] for line in said(bare, MISSING)] == [
        "NVIDIA driver (training on the GPUs): nvidia-smi fails: no driver"
    ]


def test_drawing_in_software_beside_a_gpu_is_a_note():
    (line,) = said(machine("graphics", {"renderer": "llvmpipe (LLVM 15)"}), NOTE)
    assert "slowly" in line
    assert "libnvidia-gl" in line


def test_a_full_disk_is_missing():
    (line,) = said(replace(SOUND, storage=Disk(Path("/data"), 2 * 10**8)), MISSING)
    assert line.startswith("free disk (results): 0.2 GB free in /data, and 1 GB is wanted")


def test_a_full_shared_memory_is_a_note_and_none_at_all_is_missing():
    assert len(said(replace(SOUND, shared_memory=Disk(Path("/dev/shm"), 0)), NOTE)) == 1
    assert len(said(replace(SOUND, shared_memory=Disk(Path("/dev/shm"), 0, "is not there")), MISSING)) == 1


def test_a_simulator_missing_in_the_named_interpreter_is_installed_by_that_interpreter():
    made_up = machine("packages", {"versions": {"torch": "2.13.0"}}, python="/opt/py")
    (line,) = said(made_up, MISSING)
    assert line == (
        "isaaclab or mjlab (training): not installed in /opt/py; "
        "mend: https://isaac-sim.github.io/IsaacLab or /opt/py -m pip install 'go1_sweep[mjlab]'"
    )


def test_an_interpreter_that_is_too_old_is_missing():
    (line,) = said(machine("packages", {"python": "3.9.18"}, python="/opt/py"), MISSING)
    assert "/opt/py is Python 3.9.18, and 3.11 or later is wanted" in line


def test_isaac_lab_is_named_by_its_release_and_says_what_it_lacks():
    assert "isaaclab 2.3.2 (torch 2.13.0)" in said(machine("isaaclab", {"release": "2.3.2"}), OK)
    lacks = {"release": "2.3.2", "problem": "Isaac Lab 2.3.2 found, Isaac Sim missing", "mend": "pip install isaacsim"}
    (line,) = said(machine("isaaclab", lacks, python="/opt/py"), MISSING)
    assert line == (
        "isaaclab (training): Isaac Lab 2.3.2 found, Isaac Sim missing; mend: /opt/py -m pip install isaacsim"
    )


def test_every_simulator_has_its_packages():
    assert set(doctor.RESTS_ON) == set(simulators.SIMULATORS)


def test_the_shared_memory_is_that_of_a_sweep():
    from go1_sweep.sweep.local_ray import OBJECT_STORE_BYTES

    assert doctor.SHARED_BYTES == OBJECT_STORE_BYTES


def test_the_probe_tells_the_truth_about_this_interpreter():
    found = probe(None, "packages", "torch")
    assert found["packages"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "numpy"} <= set(found["packages"]["versions"])
    import torch

    assert found["torch"]["version"] == torch.__version__
    assert found["torch"]["available"] == torch.cuda.is_available()


def test_the_probe_draws_a_picture_and_maps_the_egl_devices():
    if importlib.util.find_spec("mujoco") is None:
        pytest.skip("mujoco is not installed")
    for library, package in (("libEGL.so.1", "libegl1"), ("libEGL_mesa.so.0", "libegl-mesa0")):
        try:
            ctypes.CDLL(library)
        except OSError:
            pytest.skip(f"the Debian package {package} is missing")
    graphics = probe(None, "graphics")["graphics"]
    assert graphics["problem"] == ""
    assert graphics["renderer"]
    assert graphics["devices"]
    assert all(ordinal is None or ordinal >= 0 for ordinal in graphics["devices"])


@pytest.mark.parametrize(
    ("hidden", "package"),
    [("libEGL.so*", "libegl1"), ("libEGL_mesa.so*", "libegl-mesa0"), ("dri/*", "libgl1-mesa-dri")],
)
def test_a_missing_graphics_library_is_a_problem_whose_mend_names_its_package(hidden, package):
    folder = Path("/usr/lib", f"{os.uname().machine}-linux-gnu")
    files = [path.resolve() for path in folder.glob(hidden)]
    if not files:
        pytest.skip(f"the Debian package {package} is missing")
    if Path("/dev/nvidia0").exists():
        pytest.skip("the NVIDIA driver draws here")
    mounts = "; ".join(f"mount --bind /dev/null {file}" for file in sorted(set(files)))
    script = f'{mounts}; exec "$0" -m go1_sweep.trial.probe graphics'
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("libraries cannot be hidden here: no mount namespaces")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script, sys.executable],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(process.PACKAGE.parent)},
    )
    assert '"problem": ""' not in done.stdout
    assert package in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout


def test_an_ffmpeg_without_the_encoder_and_one_that_is_none_are_problems(tmp_path, monkeypatch):
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        pytest.skip("imageio-ffmpeg is not installed")
    assert probe(None, "encoder")["encoder"]["problem"] == ""
    ffmpeg = executable(tmp_path / "ffmpeg", "echo ' V..... mpeg4  MPEG-4'")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", ffmpeg)
    assert probe(None, "encoder")["encoder"]["problem"] == f"{ffmpeg} has no encoder libx264"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    assert "ffmpeg does not run" in probe(None, "encoder")["encoder"]["problem"]


def broken(package: str, code: str, tmp_path: Path, monkeypatch) -> None:
    """Put a package of that name before the real one on the probe's path."""
    (tmp_path / f"{package}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise ImportError('libcudart.so.13:\\n no such file')", "ImportError: libcudart.so.13: no such file"),
        ("raise ModuleNotFoundError(name='torch')", "torch is not installed"),
        ("import os; os.abort()", "the probe was killed by signal 6 (SIGABRT) without an answer"),
        ("raise SystemExit('no licence')", "the probe ended with exit code 1 without an answer: no licence"),
    ],
)
def test_a_broken_torch_is_a_problem_of_its_section_alone(code, problem, tmp_path, monkeypatch):
    broken("torch", code, tmp_path, monkeypatch)
    found = probe(None, "packages", "torch")
    assert found["torch"]["problem"] == problem
    assert found["torch"]["version"] == ""
    assert found["packages"]["problem"] == ""


@pytest.mark.parametrize(
    ("cuda", "reason", "problem", "mend"),
    [
        (None, "no CUDA", "torch 2.13.0+cpu is built for the CPU alone", "torch==2.13.0 "),
        (
            "13.0",
            "The NVIDIA driver on your system is too old",
            "The NVIDIA driver on your system is too old",
            "update",
        ),
        ("13.0", "No CUDA GPUs are available", "(CUDA_VISIBLE_DEVICES is '')", "unset CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_torch_that_cannot_use_the_gpu_says_why(cuda, reason, problem, mend, monkeypatch):
    def init():
        raise RuntimeError(reason)

    there = types.SimpleNamespace(is_available=lambda: False, init=init)
    torch = types.SimpleNamespace(__version__="2.13.0+cpu", version=types.SimpleNamespace(cuda=cuda), cuda=there)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(trial_probe, "_has_nvidia_gpu", lambda: True)
    found = trial_probe._found("torch")
    assert found["problem"].endswith(problem)
    assert mend in found["mend"]
    monkeypatch.setattr(trial_probe, "_has_nvidia_gpu", lambda: False)
    assert trial_probe._found("torch")["problem"] == ""


def executable(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("kill -SEGV $$", "the probe was killed by signal 11 (SIGSEGV) without an answer"),
        ("echo lost >&2; exit 3", "the probe ended with exit code 3 without an answer: lost"),
        ("echo '}garbage'", "the probe ended with exit code 0 without an answer"),
        ("echo '{\"graphics\": 3}'", "the probe ended with exit code 0 without an answer"),
    ],
)
def test_an_interpreter_that_gives_no_answer_is_a_problem_in_each_section(script, problem, tmp_path):
    found = probe(executable(tmp_path / "python", script), "graphics", "encoder")
    for section in ("graphics", "encoder"):
        assert found[section] == {"problem": problem, "mend": "", **NOTHING_FOUND[section]}


def test_an_interpreter_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    began = time.monotonic()
    hanging = executable(tmp_path / "python", f"sleep 333 & echo $! > {tmp_path}/child; wait")
    assert probe(hanging, "graphics", timeout=1)["graphics"]["problem"] == "the probe gave no answer within 1 s"
    assert time.monotonic() - began < 20
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "cmdline")
    assert not child.exists() or not child.read_bytes()  # a zombie has none


def test_a_child_process_draws_with_egl_where_it_is_asked_to(tmp_path, monkeypatch):
    monkeypatch.setenv("PYOPENGL_PLATFORM", "glx")
    python = executable(
        tmp_path / "python", r'''echo "{\"graphics\": {\"renderer\": \"$MUJOCO_GL$PYOPENGL_PLATFORM\"}}"'''
    )
    assert probe(python, "graphics")["graphics"]["renderer"] == "egl"
    log = tmp_path / "log"
    process.WorkerSpec("fake", python, "cpu", 1, 60).start(log).close()
    process.WorkerSpec("fake", python, "cpu", 1, 60).start(log, gl="egl").close()
    assert re.findall("disable|egl", log.read_text()) == ["disable", "egl"]


@pytest.mark.parametrize("kind", ["missing", "a folder", "no program"])
def test_an_interpreter_that_cannot_be_started_is_bad_input(kind, tmp_path):
    if kind == "a folder":
        (tmp_path / "python").mkdir()
    elif kind == "no program":
        (tmp_path / "python").write_text("text")
        (tmp_path / "python").chmod(0o755)
    with pytest.raises(errors.BadInput, match=r"python cannot be started: \w"):
        probe(str(tmp_path / "python"), "packages")


def test_the_command_says_a_line_a_finding_and_exits_by_what_is_missing(tmp_path):
    code, out, err = start("doctor", "--storage", str(tmp_path)).finish()
    *lines, last = out.splitlines()
    if code == 1:  # the summary is the error
        lines, last = [*lines, last], err.strip()
    assert all(LINE.fullmatch(line) for line in lines)
    assert "Traceback" not in out + err
    assert any(line.startswith("missing") for line in lines) == (code == 1)
    assert last.startswith({0: "Nothing is missing", 1: "error: missing: "}[code])


def test_the_command_looks_into_the_interpreter_and_the_storage_that_the_sweep_file_names(sweep, tmp_path, capsys):
    empty = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(empty)], check=True)
    python = str(empty / "bin" / "python")
    (tmp_path / "file").write_text("")
    file = sweep(simulator="auto", mjlab={"python": python}, storage=str(tmp_path / "file" / "runs")).file
    assert cli.main(["doctor", str(file)]) == 1
    said = capsys.readouterr()
    assert f"missing  isaaclab or mjlab (training): not installed in {python}" in said.out
    assert f"{tmp_path / 'file'} is no folder" in said.out
    assert said.err.startswith(
        "error: missing: isaaclab or mjlab (training), torch (training), EGL (videos), H.264 encoder"
    )
    assert len(said.err.splitlines()) == 1


def test_an_interpreter_that_is_none_is_refused_by_the_command(tmp_path, capsys):
    for python in ("/no/such/python", executable(tmp_path / "python", "exit 0")):
        assert cli.main(["doctor", "--python", python]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert python in said.err
        assert len(said.err.splitlines()) == 1
