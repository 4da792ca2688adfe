"""``stream``: exported policies drive a Go1 in plain MuJoCo, live on a web page."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Sequence
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
        places: folders of bundles, or of sweeps, whose winner and other finalists are meant; the first one drives
            first.
        host: to listen on; where others can reach it, the page's address has a token.
        port: to listen on; ``None``: a free one.
        terminal: hears of the address.

    Raises:
        BadInput: a place holds no policy that can drive a Go1, or nobody can listen there.
        ModuleNotFoundError: mjlab, which brings the model, is not installed.
    """
    drives: dict[str, Drive] = {}
    for folder in itertools.chain.from_iterable(map(_bundles_in, places)):
        try:
            drive = Drive(folder)
        except BundleError as error:
            raise BadInput(str(error)) from None
        of = drive.policy.description
        drives[f"{title(*(str(of.get(name) or '') for name in ('trial', 'checkpoint')))} ({shown(folder)})"] = drive
    loop = Loop(next(iter(drives.values())))
    entrance = gate(host, port)
    with serving(entrance) as server, contextlib.suppress(KeyboardInterrupt):
        page = Page(server, loop, drives)
        terminal.viewing(entrance.address)
        loop.run(page.show)


def _bundles_in(place: Path) -> list[Path]:
    """The folders of the bundles that are meant.

    Raises:
        BadInput: there is none.
    """
    if PolicyPaths(place).description.exists():
        return [place]
    sweep = SweepPaths(place)
    if sweep.best.description.exists():
        return [sweep.best.folder, *_other_finalists(sweep)]
    if not place.exists():
        raise BadInput(f"{shown(place)}: there is no such folder")
    is_checkpoint = place.suffix == ".pt" if place.is_file() else bool(TrialPaths(place).checkpoints())
    if is_checkpoint or sweep.spec.exists():
        raise BadInput(f"{shown(place)} holds no exported policy; this makes one: {export_command(place)}")
    raise BadInput(f"{shown(place)} is no folder of an exported policy ({DESCRIPTION}), nor of a sweep")


def _other_finalists(sweep: SweepPaths) -> list[Path]:
    """Of those who sat the sweep's exam, the best first."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # the winner can be driven without
        result = json.loads(sweep.result.read_text(encoding="utf-8"))
        best_first = sorted(result["candidates"], key=lambda each: each["overall"]["score"] or 0.0, reverse=True)
        trials = dict.fromkeys(each["trial"] for each in best_first if each["trial"] != result["winner"]["trial"])
        exported = [sweep.trial(trial).exported for trial in trials]
        return [each.folder for each in exported if each.description.exists()]
    return []
