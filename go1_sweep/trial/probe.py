"""What an interpreter and its machine can do: ``python -m go1_sweep.trial.probe [SECTION ...]``.

Prints one JSON object as its last line, a section of it for each one asked for (none: all). Every section has
``problem`` (empty: none) and ``mend`` (a command, where there is one), and besides them what was found of:

    packages  ``python``, ``versions`` of what is installed of ``PACKAGES``
    isaaclab  ``release``, empty where there is none
    torch     ``version``, ``cuda`` it was built for, ``available``, ``devices`` that it computed on
    graphics  ``renderer``, ``devices``: for each EGL device, in the order that MUJOCO_EGL_DEVICE_ID counts in,
              its CUDA ordinal or null (EGL ignores CUDA_VISIBLE_DEVICES)
    encoder   ``ffmpeg``, the program

Runs in any Python from 3.8 on, so that one that is too old can say so. A crash in C code ends the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from go1_sweep.simulators import isaaclab_release

PACKAGES = (
    "mjlab",
    "mujoco",
    "mujoco-warp",
    "warp-lang",
    "rsl-rl-lib",
    "torch",
    "isaaclab",
    "isaacsim",
    "newton",
    "numpy",
    "onnx",
    "onnxruntime",
    "imageio",
    "imageio-ffmpeg",
)

EGL_CUDA_DEVICE_NV = 0x323A

PICTURE = "<mujoco><worldbody><light pos='0 0 2'/><geom size='.1'/></worldbody></mujoco>"


class _Problem(Exception):
    """What is wrong, and the command that mends it."""

    def __init__(self, problem: str, mend: str = "") -> None:
        super().__init__(problem)
        self.mend = mend


def main(sections: list[str]) -> None:
    """Print what the sections find."""
    unknown = [name for name in sections if name not in SECTIONS]
    if unknown:
        sys.exit(f"error: no section {', '.join(unknown)}; known: {', '.join(SECTIONS)}")
    print(json.dumps({name: _found(name) for name in sections or SECTIONS}), flush=True)
    os._exit(0)  # some GL drivers crash while they are unloaded


def _found(name: str) -> dict[str, Any]:
    fill, install = SECTIONS[name]
    found: dict[str, Any] = {"problem": "", "mend": ""}
    try:
        fill(found)
    except ModuleNotFoundError as error:
        found.update(problem=f"{error.name} is not installed", mend=install)
    except _Problem as error:
        found.update(problem=str(error), mend=error.mend)
    except Exception as error:
        found.update(problem=_told(error))
    return found


def _packages(found: dict[str, Any]) -> None:
    found.update(python=platform.python_version(), versions={})
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found["versions"][package] = metadata.version(package)


def _isaaclab(found: dict[str, Any]) -> None:
    if release := isaaclab_release.release():
        found["release"] = release
        found["problem"], found["mend"] = isaaclab_release.problem()


def _torch(found: dict[str, Any]) -> None:
    import torch

    found.update(version=torch.__version__, cuda=torch.version.cuda or "", available=torch.cuda.is_available())
    found["devices"] = []
    try:
        torch.cuda.init()  # raises with the reason
        for device in range(torch.cuda.device_count()):
            (torch.zeros(1, device=f"cuda:{device}") + 1).item()  # a build may lack code for this GPU
            found["devices"].append(torch.cuda.get_device_name(device))
    except Exception as error:
        if _has_nvidia_gpu():
            raise _why_no_cuda(torch.__version__, torch.version.cuda, _told(error)) from None


def _why_no_cuda(version: str, cuda: str | None, said: str) -> _Problem:
    if cuda is None:
        pinned = version.partition("+")[0]
        mend = f"pip install --force-reinstall torch=={pinned} --index-url https://pypi.org/simple"
        return _Problem(f"torch {version} is built for the CPU alone", mend)
    problem = f"torch {version} (CUDA {cuda}) cannot use the GPU: {said}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and "No CUDA GPUs" in said:
        return _Problem(f"{problem} (CUDA_VISIBLE_DEVICES is '{hidden}')", "unset CUDA_VISIBLE_DEVICES")
    if "driver" in said:
        return _Problem(problem, "update the NVIDIA driver, or install a torch built for an older CUDA")
    return _Problem(problem)


def _graphics(found: dict[str, Any]) -> None:
    install, driver = _graphics_mends()
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError as error:
        raise _Problem(f"EGL (Debian package libegl1) is not there: {error}", install) from None
    if not any(_can_load(name) for name in ("libOpenGL.so.0", "libGL.so.1", "libGLESv2.so.2")):  # what PyOpenGL takes
        raise _Problem("OpenGL (Debian package libopengl0) is not there", install)
    found["devices"] = _egl_devices(egl)
    os.environ["MUJOCO_GL"] = "egl"
    mujoco = importlib.import_module("mujoco")
    try:
        model = mujoco.MjModel.from_xml_string(PICTURE)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        renderer = mujoco.Renderer(model, 48, 64)
        gl = importlib.import_module("OpenGL.GL")
        found["renderer"] = gl.glGetString(gl.GL_RENDERER).decode()
        renderer.update_scene(data)
        renderer.render()
    except Exception as error:
        said = _told(error)
        mend = "unset MUJOCO_EGL_DEVICE_ID" if "MUJOCO_EGL_DEVICE_ID" in said else driver
        raise _Problem(f"EGL draws nothing: {said}", mend) from None


def _graphics_mends() -> tuple[str, str]:
    """What brings the libraries, and what brings a driver for them."""
    libraries = "apt-get install libegl1 libopengl0"
    software = f"{libraries} libegl-mesa0 libgl1-mesa-dri"
    if not _has_nvidia_gpu():
        return software, software
    return libraries, (
        "install the libnvidia-gl package of the NVIDIA driver (in a container: NVIDIA_DRIVER_CAPABILITIES=all), "
        f"or draw in software: {software}"
    )


def _egl_devices(egl: ctypes.CDLL) -> list[int | None]:
    """For each EGL device its CUDA ordinal, ``None`` where it has none."""
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    addresses = [egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglQueryDeviceAttribEXT")]
    if not all(addresses):
        return []
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(addresses[0])
    query_attribute = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(addresses[1])
    devices, count = (ctypes.c_void_p * 64)(), ctypes.c_int(0)
    if not query_devices(len(devices), devices, ctypes.byref(count)):
        return []
    ordinals: list[int | None] = []
    for device in devices[: count.value]:
        value = ctypes.c_ssize_t(-1)  # EGLAttrib
        has_one = query_attribute(device, EGL_CUDA_DEVICE_NV, ctypes.byref(value))
        ordinals.append(value.value if has_one else None)
    return ordinals


def _encoder(found: dict[str, Any]) -> None:
    import imageio  # noqa: F401
    import imageio_ffmpeg

    mend = "apt-get install ffmpeg; export IMAGEIO_FFMPEG_EXE=/usr/bin/ffmpeg"
    try:
        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
        command = [ffmpeg, "-hide_banner", "-encoders"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise _Problem(f"ffmpeg does not run: {_told(error)}", mend) from None
    if b" libx264 " not in done.stdout:
        raise _Problem(f"{ffmpeg} has no encoder libx264", mend)
    found["ffmpeg"] = ffmpeg


def _has_nvidia_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _told(error: Exception) -> str:
    """The error on one line of at most 300 characters."""
    try:
        said = " ".join(str(error).split())
    except Exception:  # PyOpenGL's errors cannot always be printed
        said = ""
    return f"{type(error).__name__}: {said}"[:300] if said else type(error).__name__


SECTIONS = {
    "packages": (_packages, ""),
    "isaaclab": (_isaaclab, ""),
    "torch": (_torch, "pip install torch"),
    "graphics": (_graphics, "pip install mujoco"),
    "encoder": (_encoder, "pip install 'imageio[ffmpeg]'"),
}
"""What fills a section, and what installs the packages that it needs."""


if __name__ == "__main__":
    main(sys.argv[1:])
