"""What holds for all files that start a cluster: versions, the token, storage that all nodes see, the dashboard."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from go1_sweep import __version__
from go1_sweep.findings import NOTE, OK, WRONG, Finding

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OF_ONE_NODE = ("/tmp", "/var/tmp", "/dev/shm", "/run")
SAMPLES = re.compile(r"\S*CHANGE-ME\S*|\b192\.0\.2\.\d+|\S*\bexample\.org\S*")
"""What stands in ``cluster/`` for something that is the user's."""
_PIN = re.compile(r"\b(ray|go1[_-]sweep)(?:\[[^\]]*\])?\s*==\s*([\w.]+)")
_UNSTATED = re.compile(r"pip install\b.*[\s'\"]ray(?:\[[^\]]*\])?(?=[\s'\"]|$)")
_CONSTRAINED = re.compile(r"pip install\b.*(?:-c|--constraint)[ =]\S*constraints\.txt")
_DASHBOARD = re.compile(r"--dashboard-host[ =]\"?([^\s\"]+)")
_TOKEN = re.compile(r"\bRAY_AUTH_TOKEN[=:]\s*[\"']?(?![\"'$])\w")


@dataclass(frozen=True)
class Line:
    """A shell command, or a part of one, and where it stands (``file:line``)."""

    place: str
    text: str


def of_script(source: str, content: str) -> list[Line]:
    """The commands of a shell script or of a Dockerfile: without comments, and with their continuations."""
    lines: list[Line] = []
    continued = False
    for number, text in enumerate(content.splitlines(), start=1):
        if text.lstrip().startswith("#"):
            continue
        part = re.sub(r"(^|\s)#\s.*", "", text).rstrip()
        if continued:
            lines[-1] = Line(lines[-1].place, f"{lines[-1].text} {part.strip()}".replace("\\ ", " "))
        elif part:
            lines.append(Line(f"{source}:{number}", part))
        continued = part.endswith("\\")
    return [Line(line.place, line.text.rstrip("\\ ")) for line in lines]


def our_versions() -> dict[str, str]:
    """Those that the nodes must have as well."""
    return {"ray": metadata.version("ray"), "go1_sweep": __version__}


def other_pins(lines: Iterable[Line]) -> list[Finding]:
    """What installs other versions than we have."""
    ours, found = our_versions(), []
    for line in lines:
        for package, version in _PIN.findall(line.text):
            package = package.replace("-", "_")
            if version != ours[package]:
                detail = f"{line.place}: {package} {version}, and this machine has {ours[package]}"
                found.append(Finding(WRONG, "versions", detail, mend=f"{package}=={ours[package]}"))
    return found


def installed(source: str, lines: list[Line]) -> list[Finding]:
    """Pip installs the versions that we have."""
    mend = f"pip install -c constraints.txt, or ray=={our_versions()['ray']}"
    found = other_pins(lines)
    constrained = [line for line in lines if _CONSTRAINED.search(line.text)]
    for line in lines:
        if _UNSTATED.search(line.text) and line not in constrained:
            found.append(Finding(WRONG, "versions", f"{line.place}: whichever Ray is the newest then", mend=mend))
    if found:
        return found
    if constrained:
        return [Finding(OK, "versions", "those of constraints.txt")]
    if not any(_PIN.search(line.text) for line in lines):
        return [Finding(WRONG, "versions", f"{source}: nothing says which version of Ray is installed", mend=mend)]
    return [Finding(OK, "versions", _all(our_versions()))]


def image_versions(place: str, image: str) -> list[Finding]:
    """The image's tag says which versions are inside, and they are ours; empty if so."""
    ours = our_versions()
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    if set(ours.values()) <= set(re.findall(r"\d+(?:\.\d+)+", tag)):
        return []
    detail = f"{place}: the tag of image {image} does not say {_all(ours)}, which this machine has"
    return [Finding(WRONG, "versions", detail, mend=f"tag it {ours['go1_sweep']}-ray{ours['ray']}")]


def agreed(found: list[Finding]) -> list[Finding]:
    """What is wrong with the versions, or that they are ours."""
    return found or [Finding(OK, "versions", _all(our_versions()))]


def no_token_inside(lines: Iterable[Line]) -> list[Finding]:
    """The token itself stands nowhere: who reads the file could run what he likes on the cluster."""
    mend = "keep it in ~/.ray/auth_token (mode 0600) or in a Secret"
    return [
        Finding(WRONG, "token", f"{line.place}: Ray's token itself stands in the file", mend=mend)
        for line in lines
        if _TOKEN.search(line.text)
    ]


def storage(place: str, folder: str) -> Finding:
    """All nodes can see it."""
    who = f"{place}: {folder}"
    if "://" in folder and not folder.startswith("file:"):
        return Finding(OK, "storage", folder)
    mend = "a folder that all nodes have mounted under one path, or s3://BUCKET/runs"
    if not folder.startswith("/"):
        return Finding(WRONG, "storage", f"{who} is a path of one node's working folder", mend=mend)
    if any(f"{folder}/".startswith(f"{each}/") for each in OF_ONE_NODE):
        return Finding(WRONG, "storage", f"{who} is seen by one node only", mend=mend)
    return Finding(OK, "storage", folder)


def none_begins(place: str, what: str, mend: str) -> Finding:
    """GPUs that only an autoscaler would bring, which no sweep asks for one."""
    detail = f"{place}: the cluster begins with no {what} that has one, and a sweep asks for none"
    return Finding(WRONG, "GPUs", detail, mend=mend)


def dashboard(lines: Iterable[Line]) -> Finding:
    """Ray's dashboard listens on the loopback interface, as it does unless it is told otherwise."""
    for line in lines:
        for host in _DASHBOARD.findall(line.text):
            if host not in LOOPBACK:
                detail = f"{line.place}: Ray's dashboard listens on {host}, for whoever reaches the head"
                return Finding(WRONG, "dashboard", detail, mend="--dashboard-host=127.0.0.1, and a tunnel")
    return Finding(OK, "dashboard", "on 127.0.0.1 of the head")


def samples(lines: Iterable[Line]) -> list[Finding]:
    """What is still to be changed."""
    return [
        Finding(NOTE, "to be changed", f"{line.place}: {sample}")
        for line in lines
        for sample in SAMPLES.findall(line.text)
    ]


def _all(found: dict[str, str]) -> str:
    return " and ".join(f"{package} {version}" for package, version in found.items())
