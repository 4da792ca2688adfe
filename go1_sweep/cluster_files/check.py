"""``python -m go1_sweep cluster check FILE``."""

from __future__ import annotations

from pathlib import Path

from go1_sweep import yaml_file
from go1_sweep.cluster_files import dockerfile, kuberay, ray_up, rules, slurm
from go1_sweep.errors import BadInput, UserError
from go1_sweep.findings import WRONG, Finding, show

WHAT = "a file that starts a cluster"


def check(file: Path) -> None:
    """Print what there is to say of a file that starts a cluster, a line for each thing that was looked at.

    Raises:
        BadInput: it cannot be read, or is of no known kind.
        UserError: something is wrong with it.
    """
    found = findings(file)
    show(found)
    if wrong := [finding for finding in found if finding.level == WRONG]:
        what = ", ".join(dict.fromkeys(finding.what for finding in wrong))
        raise UserError(f"{file} has {len(wrong)} {'fault' if len(wrong) == 1 else 'faults'}: {what}")
    print(f"{file}: fine")


def findings(file: Path) -> list[Finding]:
    """What there is to say of the file.

    Raises:
        BadInput: it cannot be read, or is of no known kind.
    """
    content = yaml_file.text(file, WHAT)
    found: list[Finding] = []
    if any(line.startswith(slurm.MARK) for line in content.splitlines()):
        found = slurm.findings(str(file), content)
    elif dockerfile.FROM.search(content):
        found = dockerfile.findings(str(file), content)
    elif file.suffix in (".yaml", ".yml"):
        for document in yaml_file.read_all(file, WHAT):
            if document.data.keys() & {"cluster_name", "provider"}:
                found += ray_up.findings(document)
            elif document.data.get("kind") in (*kuberay.KINDS, kuberay.CLAIM):
                found += kuberay.findings(document)
    if not found:
        kinds = "a file for ray up, a RayCluster, a RayJob, a batch script for Slurm, a Dockerfile"
        raise BadInput(f"{file} is of no known kind: {kinds}")
    return found + rules.samples(rules.of_script(str(file), content))
