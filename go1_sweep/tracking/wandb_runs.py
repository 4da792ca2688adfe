"""The runs of one sweep in W&B: opened, closed, and written to the sweep's folder alone where no server takes them."""

from __future__ import annotations

import contextlib
import math
import shlex
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import wandb
from wandb.sdk.lib import wbauth

from go1_sweep.errors import one_line
from go1_sweep.paths import SweepPaths, shown_here
from go1_sweep.spec import Spec

PATIENT_SECONDS, HURRIED_SECONDS = 8.0, 4.0
"""So long a server may take to open a run, and to take the rest of one, while the sweep runs, and when it is over."""
BEGIN_SECONDS, UPLOAD_SECONDS = 8.0, 14.0
"""Until so long after the end of the sweep runs are opened online, and the policy is waited for. Then all that are open
are closed: at worst ``END_SECONDS`` leaves 8 s for the folder."""
TOO_SLOW = "its server takes too long"


class Runs:
    """Those that are open, by name; a run that is opened again goes on where it was."""

    def __init__(
        self, spec: Spec, paths: SweepPaths, sweep_id: str, folders: dict[str, str], say: Callable[[str], None]
    ) -> None:
        """Begin.

        Args:
            spec: of the sweep; with W&B.
            paths: of the sweep.
            sweep_id: that no other sweep has.
            folders: the names of those of open runs are kept here. What was in it was not closed: W&B writes a file
                in large blocks, so that it lacks what came last, and is dropped, to be told again.
            say: takes a sentence for the user.
        """
        assert spec.tracking.wandb
        self._spec, self._paths, self._sweep_id, self._say = spec, paths, sweep_id, say
        self._wandb = spec.tracking.wandb
        self._open: dict[str, wandb.Run] = {}
        self._folders = folders
        for torn in folders.values():
            shutil.rmtree(paths.wandb / torn, ignore_errors=True)
        folders.clear()
        self._beginning: set[Path] = set()
        """The folders of runs that were not opened."""
        self.is_online = self._wandb.mode == "online" or (self._wandb.mode == "auto" and _is_set_up())
        self.ended = math.inf
        """When the sweep did, by ``time.monotonic``."""

    def opened(
        self, name: str, kind: str, config: Mapping[str, Any], *, tags: Collection[str] = (), axis: str = ""
    ) -> wandb.Run:
        """The run, opened unless it is.

        Args:
            name: of its own in the sweep.
            kind: W&B's job type.
            config: what it is the run of.
            tags: besides simulator and task.
            axis: over which its metrics are shown.

        Raises:
            wandb.Error: W&B does not work even without a server.
        """
        if name not in self._open:
            run = self._init(name=name, job_type=kind, config=dict(config), tags=self.tags(*tags))
            if axis:
                run.define_metric("*", step_metric=axis)
            self._open[name] = run
            self._folders[name] = Path(run.dir).parent.name
        return self._open[name]

    def tags(self, *more: str) -> tuple[str, ...]:
        """Of a run: simulator, task, and more; W&B takes 64 letters of each."""
        return tuple(tag[:64] for tag in (self._spec.simulator, self._spec.task, *more))

    def close(self, exit_codes: Mapping[str, int]) -> None:
        """Close the runs: their end is uploaded now, or stays in the folder."""
        if not self._are_closed(exit_codes):
            self.go_offline(TOO_SLOW)

    def close_all(self) -> bool:
        """Close those that are open; whether they were uploaded, where there is a server."""
        return self._are_closed(dict.fromkeys(self._open, 0))

    def _are_closed(self, exit_codes: Mapping[str, int]) -> bool:
        """Close those of them that are open, all at once."""
        runs = {self._open.pop(name): code for name, code in exit_codes.items() if name in self._open}
        with ThreadPoolExecutor(max(1, len(runs))) as pool:
            are_closed = list(pool.map(_finish, runs, runs.values()))
        for name in exit_codes:
            self._folders.pop(name, None)
        return all(are_closed)

    def is_any_left(self, folders: str = "*run-*") -> bool:
        """Whether something in folders of runs with such names is not uploaded yet."""
        return any(not _mark(run).exists() for run in self._paths.wandb.glob(f"{folders}/*.wandb"))

    def sync_command(self) -> str:
        """What uploads all that is not uploaded yet, as it can be typed in a shell."""
        server = f"WANDB_BASE_URL={shlex.quote(self._wandb.base_url)} " if self._wandb.base_url else ""
        online = "--include-online " * self.is_any_left("run-*")
        return f"{server}wandb sync {online}{shlex.quote(shown_here(self._paths.wandb))}"

    def hurry(self) -> None:
        """Upload no more when the sweep is over for a while: what is in the folder can be uploaded later."""
        if self.is_online and time.monotonic() > self.ended + BEGIN_SECONDS:
            self.go_offline("the sweep is over, and there is more to upload than its end has time for")

    def go_offline(self, why: str) -> None:
        """Keep what comes from here on in the sweep's folder: one wait for a server that does not answer is enough."""
        self.is_online = False
        self.close_all()
        with contextlib.suppress(Exception):  # W&B raises whatever a server makes of it
            wandb.teardown()  # a run that could not be opened has its id until then
        for never_begun in self._beginning:
            shutil.rmtree(never_begun, ignore_errors=True)
        where = f"W&B: {why}; its runs stay in {shown_here(self._paths.wandb)} from here on"
        self._say(f"{where}; to upload them afterwards: {self.sync_command()}")

    def _init(self, **arguments: Any) -> wandb.Run:
        before = set(self._paths.wandb.glob("run-*"))
        try:
            return self._start(**arguments)
        except Exception as error:  # as above
            if not self.is_online:
                raise
            self._beginning = set(self._paths.wandb.glob("run-*")) - before
            self.go_offline(one_line(error))
            return self._start(**arguments)

    def _start(self, *, name: str, **arguments: Any) -> wandb.Run:
        run_id = f"{self._sweep_id}-{name}"
        # The parts of a run are uploaded in their order: what follows one that the folder alone has goes there too.
        is_online = self.is_online and not self.is_any_left(f"*run-*-{run_id}")
        patience = PATIENT_SECONDS if time.monotonic() < self.ended else HURRIED_SECONDS
        while any(self._paths.wandb.glob(f"*run-{time.strftime('%Y%m%d_%H%M%S')}-{run_id}")):
            time.sleep(0.1)  # W&B names a folder by the second, and would write over the one that is there
        return wandb.init(
            project=self._wandb.project,
            entity=self._wandb.entity,
            group=self._wandb.group or f"{self._spec.name}-{self._sweep_id}",
            name=name,
            id=run_id,
            resume="allow",
            mode="online" if is_online else "offline",
            reinit="create_new",
            settings=wandb.Settings(
                init_timeout=patience,
                finish_timeout=patience,
                finish_timeout_raises=True,
                x_disable_machine_info=True,  # it would be that of the follower, the same for all runs
            ),
            **arguments,
        )


def _finish(run: wandb.Run, exit_code: int) -> bool:
    """Close a run; whether it was uploaded, if it should be."""
    file = next(Path(run.dir).parent.glob("*.wandb"), None)
    try:
        run.finish(exit_code)
    except TimeoutError:
        return False
    if file and not run.offline:
        _mark(file).touch()
    return True


def _mark(file: Path) -> Path:
    """By which ``wandb sync`` knows that the file of a run was uploaded."""
    return file.with_suffix(".wandb.synced")


def _is_set_up() -> bool:
    """Whether W&B is to be online and finds a key, by its own rules: it also takes that of a server's older name."""
    with contextlib.suppress(Exception):  # a key that is none, settings that are none
        settings = wandb.setup().settings
        found = wbauth.authenticate_session(
            host=settings.base_url, source="go1_sweep", prompt=False, update_session=False
        )
        return settings.mode == "online" and bool(found)
    return False
