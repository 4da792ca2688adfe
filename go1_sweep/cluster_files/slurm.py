"""Batch scripts for Slurm."""

from __future__ import annotations

import re
import shutil
import subprocess

from go1_sweep.cluster_files import rules
from go1_sweep.cluster_files.rules import Line
from go1_sweep.findings import NOTE, OK, WRONG, Finding

MARK = "#SBATCH"
_OPTION = re.compile(rf"{MARK}\s+(.*?)(?:\s+#.*)?$")
_LOOP = re.compile(r"^\s*(?:while|until)\b")
_STORAGE = re.compile(r"--storage[ =]\"?(?:\$\{\w+:-)?([^\s\"}]+)")


def findings(source: str, content: str) -> list[Finding]:
    """What there is to say of the script."""
    lines = rules.of_script(source, content)
    return [
        *_syntax(source, content),
        *_options(source, content, lines),
        *(rules.other_pins(lines) or [Finding(OK, "versions", "of one installation, which a sweep makes sure of")]),
        *_token(source, lines),
        *_storage(source, lines),
        _rejoins(source, lines),
        rules.dashboard(lines),
    ]


def _syntax(source: str, content: str) -> list[Finding]:
    """What bash says of it, which need not be here."""
    if not (bash := shutil.which("bash")):
        return [Finding(NOTE, "schema", "bash is not here: whether it is one of its scripts is not known")]
    done = subprocess.run([bash, "-n"], input=content, capture_output=True, text=True, timeout=60)
    if done.returncode:
        said = done.stderr.strip().splitlines()[0].partition("line ")[2]
        return [Finding(WRONG, "schema", f"{source}:{said}")]
    return [Finding(OK, "schema", "a batch script for Slurm")]


def _options(source: str, content: str, lines: list[Line]) -> list[Finding]:
    """Those of sbatch: where they stand, and that there are GPUs."""
    first = int(lines[0].place.rpartition(":")[2]) if lines else 0
    numbered = list(enumerate(content.splitlines(), start=1))
    found = [
        Finding(WRONG, "schema", f"{source}:{number}: Slurm reads no {MARK} after the first command (line {first})")
        for number, text in numbered
        if text.startswith(MARK) and number > first
    ]
    options = [match[1] for _, text in numbered if (match := _OPTION.match(text))]
    gpus = [option for option in options if re.match(r"(--gres[ =]gpu|--gpus(-per-\w+)?[ =]|-G\s)", option)]
    if not gpus or re.search(r"[=: ]0$", gpus[-1]):
        mend = f"{MARK} --gpus-per-node=4"
        return [*found, Finding(WRONG, "GPUs", f"{source}: the job asks for none, and trials want them", mend=mend)]
    return [*found, Finding(OK, "GPUs", gpus[-1])]


def _token(source: str, lines: list[Line]) -> list[Finding]:
    found = rules.no_token_inside(lines)
    starts = [i for i, line in enumerate(lines) if re.search(r"\bray start\b", line.text)]
    exports = [i for i, line in enumerate(lines) if re.search(r"^\s*export\b.*\bRAY_AUTH_MODE=token\b", line.text)]
    if not starts:
        return [*found, Finding(WRONG, "token", f"{source}: there is no `ray start`")]
    if not exports or exports[0] > starts[0]:
        detail = f"{lines[starts[0]].place}: Ray would start without a token, here and on the other nodes"
        found.append(Finding(WRONG, "token", detail, mend="export RAY_AUTH_MODE=token RAY_AUTH_TOKEN, before it"))
    return found or [Finding(OK, "token", "on for the head and the workers")]


def _storage(source: str, lines: list[Line]) -> list[Finding]:
    named = [(line.place, match[1]) for line in lines for match in _STORAGE.finditer(line.text)]
    found = [rules.storage(place, folder) for place, folder in named if not folder.startswith("$")]
    mend = "--storage /shared/runs"
    return found or [Finding(WRONG, "storage", f"{source}: the script does not say where sweeps go", mend=mend)]


def _rejoins(source: str, lines: list[Line]) -> Finding:
    joins = [i for i, line in enumerate(lines) if re.search(r"\bray start\b.*--address\b", line.text)]
    for i in joins:
        loop = any(_LOOP.search(line.text) for line in lines[max(0, i - 2) : i + 1])
        if not loop or "--block" not in lines[i].text:
            detail = f"{lines[i].place}: a node that was cut off would stay without Ray"
            return Finding(WRONG, "rejoining", detail, mend="while true; do ray start ... --block; sleep 5; done")
    return Finding(OK, "rejoining", "a loop starts Ray anew" if joins else "there is one node")
