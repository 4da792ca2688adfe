"""Makes go1_sweep/cluster_files/kuberay.json of the custom resource definitions of a KubeRay release.

python tests/kuberay_schema.py RELEASE ray.io_rayclusters.yaml ray.io_rayjobs.yaml

Both lie in ray-operator/config/crd/bases of KubeRay's repository. Kept are the keys and their types; of what
`cluster check` does not look at (most of a pod), the keys of the first level alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from go1_sweep.cluster_files.kuberay import SCHEMA

KEPT = ("type", "enum", "required", "pattern", "minimum", "maximum")
CUT = {"autoscalerOptions", "gcsFaultToleranceOptions", "historyServerOptions", "headService", "ingressOptions"}
OF_A_POD = {"containers", "initContainers", "volumes", "resources", "env", "ports", "volumeMounts"}
PODS = {"template", "submitterPodTemplate"}


def kept(schema: dict[str, Any], name: str = "", *, pod: bool = False, cut: bool = False) -> dict[str, Any]:
    """The schema without descriptions and without what lies deeper than is looked at."""
    if name in PODS and not pod:
        return {"$ref": "#/$defs/pod"}
    if name == "rayClusterSpec":
        return {"$ref": "#/$defs/RayCluster"}
    found = {key: schema[key] for key in KEPT if key in schema}
    if "items" in schema:
        found["items"] = kept(schema["items"], pod=pod, cut=cut)
    if isinstance(more := schema.get("additionalProperties"), dict):
        found["additionalProperties"] = kept(more)
    if "properties" in schema:
        if cut:
            return {"type": "object"}
        found["properties"] = {
            key: kept(value, key, pod=pod, cut=key in CUT or (pod and key not in OF_A_POD | {"spec", "metadata"}))
            for key, value in schema["properties"].items()
        }
        found["additionalProperties"] = False
    return found


def main() -> None:
    """Write the file."""
    release, *files = sys.argv[1:]
    specs = {}
    for file in files:
        definition = yaml.safe_load(Path(file).read_text())["spec"]
        (version,) = (each for each in definition["versions"] if each["name"] == "v1")
        specs[definition["names"]["kind"]] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    pod = specs["RayCluster"]["properties"]["headGroupSpec"]["properties"]["template"]
    schema = {
        "$comment": f"Made by tests/kuberay_schema.py of KubeRay {release} (Apache-2.0)",
        "$defs": {"pod": kept(pod, pod=True), **{kind: kept(spec) for kind, spec in specs.items()}},
    }
    SCHEMA.write_text(json.dumps(schema, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
