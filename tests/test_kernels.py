"""Who compiles a simulator's kernels."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import wait_for

from go1_sweep.trial import kernels
from go1_sweep.trial.kernels import compiled_once, kernel_settings

FLAT: dict[str, object] = {"task": "flat"}
ROUGH: dict[str, object] = {"task": "rough"}


class Worker(threading.Thread):
    """Is in the middle of its first env until it is told to leave."""

    def __init__(self, folder: Path, what: dict[str, object], look: Callable[[], None] = lambda: None) -> None:
        super().__init__(daemon=True)
        self._arguments = folder, what, look
        self.is_cold: bool | None = None
        self.leave = threading.Event()
        self.start()

    def run(self) -> None:
        with contextlib.suppress(InterruptedError), compiled_once(*self._arguments) as self.is_cold:
            self.leave.wait()

    def ends(self) -> bool | None:
        self.leave.set()
        self.join(10)
        return self.is_cold


def test_one_compiles_and_the_others_wait_and_find_all_there(tmp_path):
    first = Worker(tmp_path, FLAT)
    wait_for(lambda: first.is_cold, 10, "the first")
    looked = threading.Event()
    second = Worker(tmp_path, FLAT, looked.set)
    assert looked.wait(10)
    assert second.is_cold is None
    assert first.ends() is True
    wait_for(lambda: second.is_cold is False, 10, "the second")
    third = Worker(tmp_path, FLAT)
    wait_for(lambda: third.is_cold is False, 10, "the third, while the second is still there")
    assert [each.ends() for each in (second, third)] == [False, False]


def test_who_has_other_kernels_waits_as_well_for_most_are_the_same(tmp_path):
    first, looked = Worker(tmp_path, FLAT), threading.Event()
    wait_for(lambda: first.is_cold, 10, "the first")
    other = Worker(tmp_path, ROUGH, looked.set)
    assert looked.wait(10)
    assert other.is_cold is None
    assert first.ends() is True
    wait_for(lambda: other.is_cold, 10, "the other, which may have kernels to compile")
    assert other.ends() is True


def test_who_is_told_to_stop_waits_no_longer(tmp_path):
    def told_to_stop() -> None:
        raise InterruptedError

    first = Worker(tmp_path, FLAT)
    wait_for(lambda: first.is_cold, 10, "the first")
    assert Worker(tmp_path, FLAT, told_to_stop).ends() is None
    assert first.ends() is True


def test_who_fails_leaves_the_work_to_the_next(tmp_path):
    with pytest.raises(MemoryError), compiled_once(tmp_path, FLAT) as is_cold:
        assert is_cold
        raise MemoryError
    with compiled_once(tmp_path, FLAT) as is_cold:
        assert is_cold


def test_who_hangs_with_the_lock_is_waited_for_no_longer_than_the_others_have_patience(tmp_path, monkeypatch):
    hangs = Worker(tmp_path, FLAT)
    wait_for(lambda: hangs.is_cold, 10, "the one that hangs")
    monkeypatch.setattr(kernels, "PATIENCE_SECONDS", 0.0)
    others = [Worker(tmp_path, FLAT), Worker(tmp_path, FLAT)]
    wait_for(lambda: all(each.is_cold for each in others), 10, "the others, which compile as well")
    assert [each.ends() for each in (*others, hangs)] == [True, True, True]


def test_kernels_that_were_deleted_are_compiled_once_again(tmp_path):
    def compiled() -> bool:
        with compiled_once(tmp_path, FLAT) as is_cold:
            for kernel in ("wp_one", "wp_two"):
                (tmp_path / kernel).mkdir(exist_ok=True)
            return is_cold

    assert [compiled(), compiled()] == [True, False]
    (tmp_path / "wp_one").rmdir()
    assert [compiled(), compiled()] == [True, False]


def test_what_somebody_else_compiles_meanwhile_need_not_stay(tmp_path):
    """Warp compiles in a folder beside the module's, which gets the number of its process and thread."""
    unfinished = tmp_path / "wp_one_p28938_t139702399474560"
    with compiled_once(tmp_path, FLAT) as is_cold:
        assert is_cold
        unfinished.mkdir()
    unfinished.rmdir()
    with compiled_once(tmp_path, FLAT) as is_cold:
        assert not is_cold


def test_a_full_disk_does_not_make_kernels_be_there(tmp_path, monkeypatch):
    def is_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", is_full)
        with compiled_once(tmp_path, FLAT) as is_cold:
            assert is_cold
    with compiled_once(tmp_path, FLAT) as is_cold:
        assert is_cold


def test_what_the_physics_is_set_to_is_a_kind_of_its_own_and_how_many_envs_there_are_is_not():
    said = kernel_settings({"num_envs": 64, "gamma": 0.9, "env.sim.njmax": 500, "env.rewards.pose.weight": 2.0})
    assert said == {"env.sim.njmax": 500}


def test_without_a_cache_or_a_place_for_a_lock_nobody_waits(tmp_path):
    with compiled_once(None, FLAT) as is_cold:
        assert not is_cold
    with compiled_once(tmp_path / "nowhere", FLAT) as is_cold:
        assert is_cold
