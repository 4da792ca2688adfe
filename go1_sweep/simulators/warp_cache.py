"""Where Warp keeps its kernels."""

from __future__ import annotations

from pathlib import Path

import warp


def warp_cache() -> Path:
    """The folder of this version's; Warp decides on it when it is initialized."""
    warp.init()
    folder = warp.config.kernel_cache_dir
    assert folder is not None
    return Path(folder)
