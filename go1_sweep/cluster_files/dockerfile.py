"""Dockerfiles of images for nodes."""

from __future__ import annotations

import re

from go1_sweep.cluster_files import rules
from go1_sweep.cluster_files.rules import Line
from go1_sweep.findings import OK, WRONG, Finding

FROM = re.compile(r"^FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE | re.MULTILINE)
INSTRUCTION = re.compile(
    r"(ADD|ARG|CMD|COPY|ENTRYPOINT|ENV|EXPOSE|FROM|HEALTHCHECK|LABEL|MAINTAINER|ONBUILD|RUN|SHELL|STOPSIGNAL|USER|VOLUME"
    r"|WORKDIR)\s",
    re.IGNORECASE,
)


def findings(source: str, content: str) -> list[Finding]:
    """What there is to say of the file."""
    lines = rules.of_script(source, content)
    environment = [line for line in lines if line.text.split()[0].upper() == "ENV"]
    return [
        *_instructions(lines),
        *_bases(lines),
        *rules.installed(source, lines),
        *_token(source, lines, environment),
        _gpus(source, environment),
    ]


def _instructions(lines: list[Line]) -> list[Finding]:
    found = [
        Finding(WRONG, "schema", f"{line.place}: {line.text.split()[0]} is no instruction of a Dockerfile")
        for line in lines
        if not INSTRUCTION.match(line.text)
    ]
    return found or [Finding(OK, "schema", "a Dockerfile")]


def _bases(lines: list[Line]) -> list[Finding]:
    """Images that do not change under their name."""
    found, stages = [], set()
    for line in lines:
        if match := FROM.match(line.text):
            image, name = match[1], match[2]
            tag = image.rpartition("/")[2].partition(":")[2]
            if image not in stages and "$" not in image and "@" not in image and tag in ("", "latest"):
                detail = f"{line.place}: {image} is another image every month"
                found.append(Finding(WRONG, "base", detail, mend=f"{image.removesuffix(':latest')}:VERSION"))
            stages.add(name)
    return found or [Finding(OK, "base", "of a fixed version")]


def _token(source: str, lines: list[Line], environment: list[Line]) -> list[Finding]:
    found = rules.no_token_inside(lines)
    if not any("RAY_AUTH_MODE=token" in line.text for line in environment):
        detail = f"{source}: Ray would start without a token where nothing else says so"
        found.append(Finding(WRONG, "token", detail, mend="ENV RAY_AUTH_MODE=token"))
    return found or [Finding(OK, "token", "on, and not in the image")]


def _gpus(source: str, environment: list[Line]) -> Finding:
    said = [match for line in environment for match in re.findall(r"NVIDIA_DRIVER_CAPABILITIES=(\S+)", line.text)]
    if not said or not {"compute", "all"} & set(said[-1].strip('"').split(",")):
        detail = f"{source}: NVIDIA's runtime would give it no GPU to compute on"
        return Finding(WRONG, "GPUs", detail, mend="ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics")
    return Finding(OK, "GPUs", said[-1])
