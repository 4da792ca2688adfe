"""``stream``: exported policies drive a Go1 in plain MuJoCo, live on a web page."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from go1_sweep.deploy.driving import Drive, Loop
from go1_sweep.deploy.gate import gate
from go1_sweep.deploy.page import Page, serving
from go1_sweep.deploy.policy import DESCRIPTION, BundleError
from go1_sweep.errors import BadInput
from go1_sweep.paths import PolicyPaths, SweepPaths, TrialPaths, shown
from go1_sweep.terminal import Terminal
from go1_sweep.wording import export_command, title


def stream(places: Sequence[Path], host: str, port: int | None, terminal: Terminal) -> None:
    """Let policies drive until Ctrl-C.

    Args:
        places: folders of bundles, or of sweeps, whose ``best/`` is meant; the first one drives first.
        host: to listen on; where others can reach it, the page's address has a token.
        port: to listen on; ``None``: a free one.
        terminal: hears of the address.

    Raises:
        BadInput: a place holds no policy that can drive a Go1, or nobody can listen there.
        ModuleNotFoundError: mjlab, which brings the model, is not installed.
    """
    drives: dict[str, Drive] = {}
    for place in places:
        folder = _bundle_in(place)
        try:
            drive = Drive(folder)
        except BundleError as error:
            raise BadInput(str(error)) from None
        drives[f"{_title(drive)} ({shown(folder)})"] = drive
        if folder != place:
            for finalist, command in _other_finalists(SweepPaths(place), drive):
                terminal.note(f"{finalist}, can be driven as well when it is exported: {command}")
    loop = Loop(next(iter(drives.values())))
    entrance = gate(host, port)
    with serving(entrance) as server, contextlib.suppress(KeyboardInterrupt):
        page = Page(server, loop, drives)
        terminal.viewing(entrance.address)
        loop.run(page.show)


def _bundle_in(place: Path) -> Path:
    """The folder of the bundle that is meant.

    Raises:
        BadInput: there is none.
    """
    for paths in (PolicyPaths(place), SweepPaths(place).best):
        if paths.description.exists():
            return paths.folder
    if not place.exists():
        raise BadInput(f"{shown(place)}: there is no such folder")
    is_checkpoint = place.suffix == ".pt" if place.is_file() else bool(TrialPaths(place).checkpoints())
    if is_checkpoint or SweepPaths(place).spec.exists():
        raise BadInput(f"{shown(place)} holds no exported policy; this makes one: {export_command(place)}")
    raise BadInput(f"{shown(place)} is no folder of an exported policy ({DESCRIPTION}), nor of a sweep")


def _title(drive: Drive) -> str:
    of = drive.policy.description
    return title(*(str(of.get(name) or "") for name in ("trial", "checkpoint")))


def _other_finalists(paths: SweepPaths, winner: Drive) -> Iterator[tuple[str, str]]:
    """Who else sat the sweep's exam, and what exports it: a sweep exports its winner alone."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # the winner can be driven without
        for each in json.loads(paths.result.read_text(encoding="utf-8"))["candidates"]:
            name = title(each["trial"], each["checkpoint"])
            if name != _title(winner):
                yield name, export_command(paths.trial(each["trial"]).folder / each["checkpoint"])
