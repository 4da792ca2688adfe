"""Where Warp keeps its kernels, and how they get there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import warp

MOST_COMPILERS = 8
"""Sixteen took as long, where there were cores for them."""


def warp_cache() -> Path:
    """The folder of this version's; Warp decides on it when it is initialized."""
    warp.init()
    folder = warp.config.kernel_cache_dir
    assert folder is not None
    return Path(folder)


def load_together(launch: Callable[[], object]) -> None:
    """Compile and load side by side what ``launch`` launches; Warp does so one after the other, at each first launch.

    Args:
        launch: launches kernels, here without any effect: a launch whose module is not there does nothing. Nobody else
            may launch any at the same time, and it must not wait for what one of them does. What goes wrong in it is
            not told here: kernels from there on are not loaded.

    Raises:
        Exception: what Warp raises where a module does not compile.
    """
    wanted: dict[tuple[warp.Module, str, int], None] = {}

    def note(self: warp.Module, device: Any, block_dim: int | None = None, *_: object, **__: object) -> None:
        wanted[self, str(device), block_dim or self.options["block_dim"]] = None

    def note_and_guess(kernel: warp.Kernel, device: Any = None) -> tuple[int, int]:
        note(kernel.module, warp.get_device(device))
        return 1, 1

    with (
        instead(warp.Module, "load", note),
        instead(warp, "get_suggested_block_size", note_and_guess),
        contextlib.suppress(Exception),
    ):
        launch()
    compilers = ThreadPoolExecutor(min(MOST_COMPILERS, len(os.sched_getaffinity(0))))
    try:
        loadings = [compilers.submit(module.load, device, block_dim) for module, device, block_dim in wanted]
        for loading in loadings:
            loading.result()
    finally:
        compilers.shutdown(cancel_futures=True)


@contextlib.contextmanager
def instead(owner: Any, name: str, value: Any) -> Iterator[Any]:
    """Put another value in the place of an attribute; what was there is given, and put back at the end."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield original
    finally:
        setattr(owner, name, original)
