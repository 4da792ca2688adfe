"""Commands as jobs of a Ray cluster: for a machine that reaches its dashboard, neither its nodes nor their storage."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import logging
import os
import re
import secrets
import shlex
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from go1_sweep import __version__
from go1_sweep.console import lasting
from go1_sweep.errors import BadInput, Interrupted, NoTrialSucceeded, UserError, one_line
from go1_sweep.paths import SweepPaths, replacing, shown
from go1_sweep.sweep.cluster import TOKEN
from go1_sweep.terminal import BEGUN
from go1_sweep.wording import submit_command

OURS = f"go1_sweep {__version__}"
MARK = "==== "
"""In a job's log, before the version that is there; what precedes that line is Ray's, what follows is the command's."""
ENTRYPOINT = f"""\
has=$(python -m go1_sweep --version 2>&1 | tail -n 1)
echo "{MARK}$has"
[ "$has" = "{OURS}" ] || exit 2
%s"""
ERROR = re.compile(r"^(?:error|go1_sweep): ", re.MULTILINE)
"""What begins the last that a command says if it fails."""
RAISED = {error.exit_code: error for error in (UserError, BadInput, NoTrialSucceeded, Interrupted)}
STOP_SECONDS = "60"
"""So long a job that Ray was told to stop may take before it is killed; Ray's 3 s may be less than an iteration."""
ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.5
TROUBLE = (OSError, http.client.HTTPException, RuntimeError, ValueError, KeyError)
"""What comes of a connection that breaks, and of answers that are not those of Ray's dashboard."""


def begin(dashboard: str, arguments: Sequence[str], folder: str, file: Path | None = None) -> None:
    """Have a sweep run, or go on; returns when its trials have begun, or when it is over.

    Args:
        dashboard: http://HOST:PORT.
        arguments: of ``python -m go1_sweep`` there.
        folder: of the sweep, on the cluster.
        file: of this machine, which the command finds under its name.

    Raises:
        BadInput: no cluster of our version is there, or the command says so.
        Interrupted: Ctrl-C, here or by the command; here it leaves the job as it is.
        UserError: the command says so, or the connection broke.
    """
    _refuse_relative(folder)
    job = _Job(dashboard, arguments[0], folder, f"exec {_command(*arguments, '--address', dashboard)}", file)
    console = lasting()
    console.print(f"Job {job.id} at {dashboard}", markup=False)
    try:
        job.follow(is_enough=BEGUN)
    except KeyboardInterrupt:
        raise Interrupted(f"the sweep is not waited for, and goes on; to end it: {job.command('stop')}") from None
    if job.is_over:
        return
    console.print("It runs there, whatever becomes of this machine. From here:")
    for command in ("status", "stop", "resume", "report"):
        console.print(f"  {submit_command(command, folder, dashboard)}", markup=False)
    console.print(f"What it prints: {job.command('logs --follow')}", markup=False)


def ask(dashboard: str, arguments: Sequence[str], folder: str) -> None:
    """Have a command done, and print what it says.

    Args:
        dashboard: http://HOST:PORT.
        arguments: of ``python -m go1_sweep`` there, but for the folder, which is the last.
        folder: of the sweep, on the cluster.

    Raises:
        UserError: as ``begin``.
    """
    with _job(dashboard, arguments[0], folder, f"exec {_command(*arguments, folder)}") as job:
        job.follow()


def fetch_report(dashboard: str, folder: str) -> None:
    """Have a sweep's page written, and bring it into the working folder.

    Args:
        dashboard: http://HOST:PORT.
        folder: of the sweep, on the cluster.

    Raises:
        UserError: as ``begin``.
    """
    made = f'page=$({_command("report", folder)}) && echo "{MARK}" && gzip -c "$page" | base64'
    with _job(dashboard, "report", folder, made) as job:
        said = job.follow(is_shown=False)
    page = Path(f"{PurePosixPath(folder).name}-{SweepPaths(Path()).report.name}")
    with replacing(page) as new:
        new.write_bytes(gzip.decompress(base64.b64decode(said.rpartition(f"{MARK}\n")[2])))
    print(shown(page))


class _Job:
    """A job of ours on a cluster."""

    def __init__(self, dashboard: str, command: str, folder: str, does: str, file: Path | None = None) -> None:
        self._dashboard, self._client = dashboard, _connected(dashboard)
        self.id = "-".join((command, re.sub(r"[^\w.-]", "_", PurePosixPath(folder).name), secrets.token_hex(4)))
        self.is_over = False
        with tempfile.TemporaryDirectory(prefix="go1_sweep-") as upload:
            if file:
                shutil.copyfile(file, Path(upload, file.name))
            # A working folder also where there is no file: paths below the one of `ray start` would be told relative.
            environment = {"working_dir": upload, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": STOP_SECONDS}}
            with self._trouble():
                self._client.submit_job(entrypoint=ENTRYPOINT % does, submission_id=self.id, runtime_env=environment)

    def follow(self, is_enough: re.Pattern[str] | None = None, *, is_shown: bool = True) -> str:
        """Print what it says, until it is over or has said enough; all that it has said.

        Raises:
            UserError: as ``begin``.
        """
        console, printed = lasting(), 0
        while True:
            with self._trouble():
                details = self._client.get_job_info(self.id)
                self.is_over = details.status.is_terminal()
                log = self._client.get_job_logs(self.id) if is_shown or self.is_over else ""
            has, said, why = _parts(log if self.is_over else log[: log.rfind("\n") + 1])
            if is_shown:
                console.out(said[printed:], end="", highlight=False)
                printed = len(said)
            if self.is_over:
                _raise(details, has, why)
                return said
            if is_enough and is_enough.search(said):
                return said
            time.sleep(POLL_SECONDS)

    def command(self, does: str) -> str:
        """What Ray's own command line does to it; that takes a mode in so many words."""
        mode = os.environ["RAY_AUTH_MODE"]
        return f"RAY_AUTH_MODE={mode} ray job {does} {self.id} --address {shlex.quote(self._dashboard)}"

    def stop(self) -> None:
        """End it, if it still can be told."""
        with contextlib.suppress(*TROUBLE):
            self._client.stop_job(self.id)

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except TROUBLE as error:
            what = f"no answer from {self._dashboard} about job {self.id}, which goes on if it had begun"
            raise UserError(f"{what}: {one_line(error)}") from None


@contextlib.contextmanager
def _job(dashboard: str, command: str, folder: str, does: str) -> Iterator[_Job]:
    _refuse_relative(folder)
    job = _Job(dashboard, command, folder, does)
    try:
        yield job
    except KeyboardInterrupt:
        job.stop()
        raise


def _command(*arguments: str) -> str:
    return f"python -m go1_sweep {shlex.join(arguments)}"


def _refuse_relative(folder: str) -> None:
    if not folder.startswith("/") and "://" not in folder:
        path = "the path that all nodes of the cluster know, as /shared/runs/NAME (run: --storage /shared/runs)"
        raise BadInput(f"--submit: {folder} is no absolute path: name {path}")


def _connected(dashboard: str) -> JobSubmissionClient:
    os.environ["RAY_API_SERVER_ADDRESS"] = dashboard  # else Ray takes what this or RAY_ADDRESS says
    logging.disable()  # Ray's
    try:
        _wait_for_answer(dashboard)
        return JobSubmissionClient(dashboard)
    except AuthenticationError:
        raise BadInput(f"--submit: the Ray cluster at {dashboard} does not take us: {TOKEN}") from None
    except TROUBLE as error:
        reason = getattr(error, "reason", None) or repr(error)
        raise BadInput(f"--submit: no dashboard of Ray answers at {dashboard}: {reason}") from None


def _wait_for_answer(dashboard: str) -> None:
    """Make sure that somebody is there, for whom Ray's client would wait without end.

    Raises:
        Exception: of ``TROUBLE``.
    """
    try:
        urllib.request.urlopen(f"{dashboard}/api/version", timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):  # it wants a token
            raise


def _parts(log: str) -> tuple[str, str, str]:
    """Which version is there, what the command said, and why it failed; empty what is not known."""
    _, *rest = re.split(rf"^{MARK}(.*)\n", log, maxsplit=1, flags=re.MULTILINE)
    has, said = rest or ("", "")
    said, *why = ERROR.split(said, maxsplit=1)
    return has, said, "".join(why).strip()


def _raise(details: JobDetails, has: str, why: str) -> None:
    """What the command would raise here."""
    if details.status == JobStatus.SUCCEEDED:
        return
    if has and has != OURS:
        raise BadInput(
            f"--submit: on the head of the cluster `python -m go1_sweep --version` says '{has}', and here '{OURS}': "
            "one version must be in both, there in the environment that PATH names when Ray is started"
        )
    if why and details.driver_exit_code in RAISED:
        raise RAISED[details.driver_exit_code](why)
    if details.status == JobStatus.STOPPED:
        raise Interrupted("the job was stopped")
    reason = (details.message or "Ray does not say why").partition("\n")[0].partition(", last available logs")[0]
    raise UserError(f"the job failed: {reason}")
