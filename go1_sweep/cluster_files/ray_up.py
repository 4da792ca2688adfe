"""Files for ``ray up``."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from go1_sweep.cluster_files import rules, schema
from go1_sweep.cluster_files.rules import Line
from go1_sweep.cluster_files.schema import at, items, mapping
from go1_sweep.findings import NOTE, OK, WRONG, Finding
from go1_sweep.yaml_file import Document

HEAD, WORKER = "head_start_ray_commands", "worker_start_ray_commands"
SETUP = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
_START = re.compile(r"\bray start\b")
_MODE = re.compile(r"\bRAY_AUTH_MODE=token\b.*\bray start\b")
_OLD_AUTOSCALER = re.compile(r"unset\b[^;&]*\bRAY_enable_autoscaler_v2\b|RAY_enable_autoscaler_v2=0\b")


def findings(document: Document) -> list[Finding]:
    """What there is to say of the file."""
    commands = [line for section in (*SETUP, HEAD, WORKER) for line in _lines(document, section)]
    return [
        *_schema(document),
        *_versions(document, commands),
        *_token(document, commands),
        _gpus(document),
        _head(document),
        *_storage(document),
        _rejoins(document),
        rules.dashboard(commands),
    ]


def _lines(document: Document, section: str) -> list[Line]:
    found = enumerate(items(document.data, section))
    return [Line(document.where((section, i)), text) for i, text in found if isinstance(text, str)]


def _starts(document: Document, section: str) -> list[Line]:
    return [line for line in _lines(document, section) if _START.search(line.text)]


def _schema(document: Document) -> list[Finding]:
    from go1_sweep.sweep import ray_schema

    if found := schema.violations(document, ray_schema.schema()):
        return found
    if problem := ray_schema.problem(document.data):
        return [schema.violation(document, (), problem)]
    return [Finding(OK, "schema", "a file for ray up")]


def _versions(document: Document, commands: list[Line]) -> list[Finding]:
    paths = [("docker", key) for key in ("image", "head_image", "worker_image")]
    images = [path for path in paths if at(document.data, *path)]
    if not images:
        return rules.installed(document.source, commands)
    said = [rules.image_versions(document.where(path), str(at(document.data, *path))) for path in images]
    return rules.agreed([finding for each in said for finding in each])


def _token(document: Document, commands: list[Line]) -> list[Finding]:
    found = rules.no_token_inside(commands)
    for section, who in ((HEAD, "the head"), (WORKER, "workers")):
        starts = _starts(document, section)
        if not starts:
            detail = (
                f"{document.where((section,))}: {section} has no `ray start`, and Ray's own line is without a token"
            )
            found.append(Finding(WRONG, "token", detail, mend="RAY_AUTH_MODE=token ray start ..."))
        for line in starts:
            if not _MODE.search(line.text):
                detail = f"{line.place}: {who} would start without a token"
                found.append(Finding(WRONG, "token", detail, mend="export RAY_AUTH_MODE=token; before ray start"))
    if not any(str(remote).endswith("/.ray/auth_token") for remote in mapping(document.data, "file_mounts")):
        mend = "file_mounts: {~/.ray/auth_token: ~/.ray/auth_token}"
        found.append(Finding(WRONG, "token", f"{document.where(('file_mounts',))}: the nodes do not get it", mend=mend))
    return found or [Finding(OK, "token", "on for the head and the workers, which get it over ssh")]


def _gpus(document: Document) -> Finding:
    starts = _starts(document, WORKER)
    if starts and all(re.search(r"--num-gpus[ =]0\b", line.text) for line in starts):
        return Finding(WRONG, "GPUs", f"{starts[0].place}: workers start with --num-gpus=0: none is left for trials")
    if at(document.data, "provider", "type") == "local":
        count = len(items(document.data, "provider", "worker_ips"))
        if not count:
            where = document.where(("provider", "worker_ips"))
            return Finding(WRONG, "GPUs", f"{where}: no worker, hence no GPU for trials", mend="provider.worker_ips")
        return Finding(OK, "GPUs", f"those that Ray finds on {count} workers")
    types = mapping(document.data, "available_node_types")
    workers = {
        name: at(types, name, "resources", "GPU") for name in types if name != document.data.get("head_node_type")
    }
    have = {name: count for name, count in workers.items() if isinstance(count, int) and count > 0}
    if not have:
        where = document.where(("available_node_types",))
        return Finding(WRONG, "GPUs", f"{where}: no worker type has one for trials", mend="resources: {CPU: 8, GPU: 1}")
    if not any(at(types, name, "min_workers") for name in have):
        where = document.where(("available_node_types", next(iter(have)), "min_workers"))
        return rules.none_begins(where, "worker", "min_workers")
    return Finding(OK, "GPUs", ", ".join(f"{count} in each {name}" for name, count in have.items()))


def _head(document: Document) -> Finding:
    takes = [line for line in _starts(document, HEAD) if not re.search(r"--num-cpus[ =]0\b", line.text)]
    if takes:
        is_there = at(document.data, "provider", "type") == "local"  # and may have GPUs like the others
        detail = f"{takes[0].place}: it would take trials, beside the driver"
        return Finding(NOTE if is_there else WRONG, "head", detail, mend="--num-cpus=0 --num-gpus=0")
    return Finding(OK, "head", "takes no trials")


def _storage(document: Document) -> list[Finding]:
    path = ("metadata", "storage")
    folder = at(document.data, *path)
    if not isinstance(folder, str):
        detail = f"{document.where(path)}: the file does not say where sweeps go"
        return [Finding(WRONG, "storage", detail, mend="metadata: {storage: /shared/runs}")]
    found = rules.storage(document.where(path), folder)
    if found.level == WRONG or "://" in folder:
        return [found]
    parents = {str(each) for each in (PurePosixPath(folder), *PurePosixPath(folder).parents)} - {"/"}
    for line in [*_lines(document, "setup_commands"), *_lines(document, "initialization_commands")]:
        if "mount" in line.text and parents & set(re.findall(r"[\w./-]+", line.text)):
            return [Finding(OK, "storage", f"{folder}, which each node mounts or has mounted")]
    detail = f"{document.where(path)}: no setup command mounts {folder}, or makes sure that a node has it mounted"
    return [Finding(WRONG, "storage", detail, mend=f"mountpoint -q {min(parents, key=len)}")]


def _rejoins(document: Document) -> Finding:
    if at(document.data, "provider", "disable_node_updaters"):
        where = document.where(("provider", "disable_node_updaters"))
        return Finding(WRONG, "rejoining", f"{where}: nobody starts Ray anew on a node that was cut off")
    if at(document.data, "provider", "type") == "local":
        old = [line for line in _starts(document, HEAD) if _OLD_AUTOSCALER.search(line.text)]
        if not old:
            where = document.where((HEAD,))
            detail = f"{where}: the autoscaler that ray up switches on takes a local head for one of the workers"
            return Finding(WRONG, "rejoining", detail, mend="unset RAY_enable_autoscaler_v2; before ray start")
        return Finding(OK, "rejoining", "the autoscaler starts Ray anew on a machine that was cut off")
    return Finding(OK, "rejoining", "the autoscaler puts another machine in the place of one that was cut off")
