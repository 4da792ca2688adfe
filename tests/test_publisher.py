"""A training does not wait for the disk that its checkpoints go to, and hears of what does not get there."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator

import pytest

from go1_sweep import checkpoint
from go1_sweep.paths import TrialPaths
from go1_sweep.protocol import Progress
from go1_sweep.trial.publisher import Publisher

CONTENTS = {1: b"one", 2: b"two"}


class Disk:
    """Each write waits until it is let go; then it works, or fails as it is told."""

    def __init__(self, publish: Callable[..., object]) -> None:
        self.may_go, self.begun = threading.Semaphore(0), threading.Semaphore(0)
        self.errors: list[OSError] = []
        self._publish = publish

    def __call__(self, *args, **kwargs):
        self.begun.release()
        assert self.may_go.acquire(timeout=60)
        if self.errors:
            raise self.errors.pop(0)
        return self._publish(*args, **kwargs)


@pytest.fixture
def disk(monkeypatch) -> Disk:
    disk = Disk(checkpoint.publish)
    monkeypatch.setattr(checkpoint, "publish", disk)
    return disk


@pytest.fixture
def publisher(tmp_path, disk) -> Iterator[Publisher]:
    publisher = Publisher(TrialPaths(tmp_path), 0, "max", lambda: pytest.fail("there is room"))
    yield publisher
    disk.may_go.release(100)
    publisher.close()


def publish(publisher: Publisher, iteration: int) -> None:
    publisher.publish(memoryview(CONTENTS[iteration]), Progress(iteration, 1, 1.0, 0.5))


def published(publisher: Publisher) -> list[str]:
    return [entry.file for entry in checkpoint.intact(publisher._paths, pytest.fail)]


def test_training_goes_on_while_a_checkpoint_is_written(publisher, disk):
    publish(publisher, 1)
    assert disk.begun.acquire(timeout=60)
    publisher.look()
    assert published(publisher) == []
    disk.may_go.release()
    publisher.finish()
    assert published(publisher) == ["model_1.pt"]
    assert publisher._paths.checkpoint(1).read_bytes() == b"one"


def test_the_next_one_waits_for_the_one_before(publisher, disk):
    publish(publisher, 1)
    second = threading.Thread(target=publish, args=(publisher, 2))
    second.start()
    assert disk.begun.acquire(timeout=60)
    assert not disk.begun.acquire(timeout=0.2), "one at a time"
    disk.may_go.release(2)
    second.join(60)
    publisher.finish()
    assert published(publisher) == ["model_1.pt", "model_2.pt"]


def test_the_training_itself_waits_for_room_and_says_so(tmp_path, disk):
    waited: list[str] = []
    publisher = Publisher(TrialPaths(tmp_path), 0, "max", lambda: waited.append(threading.current_thread().name))
    disk.errors = [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "full")]
    disk.may_go.release(3)
    publish(publisher, 1)
    publisher.finish()
    publisher.close()
    assert waited == [threading.current_thread().name]
    assert published(publisher) == ["model_1.pt"]


def test_a_write_that_fails_for_good_fails_the_training_in_its_next_iteration(publisher, disk):
    disk.errors = [OSError(errno.EACCES, "not yours") for _ in range(3)]
    disk.may_go.release(3)
    publish(publisher, 1)
    assert publisher._last is not None
    publisher._last.exception(60)
    with pytest.raises(PermissionError):
        publisher.look()


def test_a_trial_that_is_over_leaves_no_writer_and_no_half_checkpoint(publisher, disk, capsys):
    disk.errors = [OSError(errno.ENOSPC, "full"), OSError(errno.ENOSPC, "full")]
    disk.may_go.release(2)
    publish(publisher, 1)
    publisher.close()
    assert "the last checkpoint was not published: OSError" in capsys.readouterr().out
    assert list(publisher._paths.folder.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("publisher")]


def test_a_checkpoint_that_found_no_room_is_tried_once_more_at_the_end(publisher, disk):
    disk.errors = [OSError(errno.ENOSPC, "full")]
    disk.may_go.release(2)
    publish(publisher, 1)
    publisher.close()
    assert published(publisher) == ["model_1.pt"]
