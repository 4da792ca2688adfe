"""KubeRay's RayCluster and RayJob, and the claim for their storage."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from go1_sweep.cluster_files import rules, schema
from go1_sweep.cluster_files.schema import at, items, mapping
from go1_sweep.findings import NOTE, OK, WRONG, Finding
from go1_sweep.yaml_file import Document, Path_

SCHEMA = Path(__file__).with_name("kuberay.json")
KINDS = ("RayCluster", "RayJob")
_RAY: Path_ = ("spec", "containers", 0)
"""KubeRay takes a pod's first container for Ray's."""
CLAIM = "PersistentVolumeClaim"
_STORAGE = re.compile(r"--storage[ =](\S+)")


def findings(document: Document) -> list[Finding]:
    """What there is to say of the document, which is of one of the kinds."""
    if document.data["kind"] == CLAIM:
        return [_claim(document)]
    return _Cluster(document).findings()


def _claim(document: Document) -> Finding:
    path = ("spec", "accessModes")
    if "ReadWriteMany" not in items(document.data, *path):
        return Finding(WRONG, "storage", f"{document.where(path)}: one node only may write", mend="[ReadWriteMany]")
    return Finding(OK, "storage", "a claim for pods on several machines")


class _Cluster:
    """A RayCluster, or the one of a RayJob."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._is_job = document.data["kind"] == "RayJob"
        self._root: Path_ = ("spec", "rayClusterSpec") if self._is_job else ("spec",)
        self._head: Path_ = (*self._root, "headGroupSpec")
        workers = items(document.data, *self._root, "workerGroupSpecs")
        self._workers: list[Path_] = [(*self._root, "workerGroupSpecs", i) for i in range(len(workers))]

    def findings(self) -> list[Finding]:
        if self._is_job and self._at("spec", "clusterSelector"):
            return [*self._schema(), Finding(NOTE, "cluster", "is there already: check its own file")]
        return [
            *self._schema(),
            *self._versions(),
            *self._token(),
            self._gpus(),
            self._takes_no_trials(),
            *self._storage(),
            self._rejoins(),
            self._dashboard(),
        ]

    def _at(self, *path: str | int) -> Any:
        return at(self._document.data, *path)

    def _where(self, *path: str | int) -> str:
        return self._document.where(path)

    def _ray_container(self, group: Path_) -> Path_:
        return (*group, "template", *_RAY)

    def _schema(self) -> list[Finding]:
        kind = self._document.data["kind"]
        known = json.loads(SCHEMA.read_text())
        top = {
            "type": "object",
            "required": ["apiVersion", "kind", "metadata", "spec"],
            "properties": {
                "apiVersion": {"enum": ["ray.io/v1"]},
                "kind": {},
                "metadata": {"type": "object", "required": ["name"]},
                "spec": {"$ref": f"#/$defs/{kind}"},
            },
            "additionalProperties": False,
        }
        found = schema.violations(self._document, {**known, **top})
        if not self._at(*self._root, "enableInTreeAutoscaling"):
            for group in self._workers:
                if self._at(*group, "minReplicas") is None or self._at(*group, "maxReplicas") is None:
                    what = "without the autoscaler KubeRay wants minReplicas and maxReplicas"
                    found.append(schema.violation(self._document, group, what))
        release = known["$comment"].partition("KubeRay ")[2].split()[0]
        return found or [Finding(OK, "schema", f"a {kind} of KubeRay {release}")]

    def _versions(self) -> list[Finding]:
        ours, path = rules.our_versions()["ray"], (*self._root, "rayVersion")
        found = []
        if self._at(*path) != ours:
            detail = f"{self._where(*path)}: rayVersion {self._at(*path)}, and this machine has {ours}"
            found.append(Finding(WRONG, "versions", detail, mend=f"rayVersion: {ours}"))
        pods = [(*group, "template") for group in (self._head, *self._workers)] + [("spec", "submitterPodTemplate")]
        for image in [(*pod, *_RAY, "image") for pod in pods if self._at(*pod, *_RAY)]:
            found += rules.image_versions(self._where(*image), str(self._at(*image)))
        return rules.agreed(found)

    def _token(self) -> list[Finding]:
        path = (*self._root, "authOptions", "mode")
        is_on, found = self._at(*path) == "token", []
        for group, who in [(self._head, "the head"), *((group, "workers") for group in self._workers)]:
            env = {
                str(at(each, "name")): each for each in items(self._document.data, *self._ray_container(group), "env")
            }
            where = self._where(*self._ray_container(group), "env")
            mode = at(env.get("RAY_AUTH_MODE"), "value")
            if (mode or ("token" if is_on else None)) != "token":
                detail = f"{where if mode else self._where(*path)}: {who} would start without a token"
                found.append(Finding(WRONG, "token", detail, mend="authOptions: {mode: token}"))
            if at(env.get("RAY_AUTH_TOKEN"), "value"):
                mend = "valueFrom: {secretKeyRef: ...}, or leave it to KubeRay"
                found.append(Finding(WRONG, "token", f"{where}: Ray's token itself stands in the file", mend=mend))
        return found or [Finding(OK, "token", "on for the head and the workers")]

    def _gpus(self) -> Finding:
        have, begins = [], False
        for group in self._workers:
            limits = mapping(self._document.data, *self._ray_container(group), "resources", "limits")
            gpus = next((str(count) for kind, count in limits.items() if kind.endswith("/gpu")), "0")
            if gpus != "0" and self._at(*group, "rayStartParams", "num-gpus") != "0":
                have.append(f"{gpus} in each pod of {self._at(*group, 'groupName')}")
                begins |= any(self._at(*group, count) for count in ("minReplicas", "replicas"))
        if not have:
            where = self._where(*self._root, "workerGroupSpecs")
            mend = 'limits: {nvidia.com/gpu: "1"}'
            return Finding(WRONG, "GPUs", f"{where}: no worker group has one for trials", mend=mend)
        if not begins:
            return rules.none_begins(self._where(*self._root, "workerGroupSpecs"), "pod", "minReplicas")
        return Finding(OK, "GPUs", ", ".join(have))

    def _takes_no_trials(self) -> Finding:
        path = (*self._head, "rayStartParams", "num-cpus")
        if self._at(*path) != "0":
            detail = f"{self._where(*path)}: it would take trials, beside the driver"
            return Finding(WRONG, "head", detail, mend='rayStartParams: {num-cpus: "0"}')
        return Finding(OK, "head", "takes no trials")

    def _mounts(self, group: Path_) -> dict[str, tuple[str, Any]]:
        """By folder of Ray's container: which kind of volume is there, and what tells it from others."""
        volumes = {}
        for volume in items(self._document.data, *group, "template", "spec", "volumes"):
            kind = next((key for key in mapping(volume) if key != "name"), "")
            volumes[str(at(volume, "name"))] = (kind, at(volume, kind))
        mounts = items(self._document.data, *self._ray_container(group), "volumeMounts")
        return {str(at(mount, "mountPath")): volumes.get(str(at(mount, "name")), ("", None)) for mount in mounts}

    def _storage(self) -> list[Finding]:
        wanted = _STORAGE.search(str(self._at("spec", "entrypoint") or ""))
        where = self._where("spec", "entrypoint")
        if self._is_job and not wanted:
            mend = "--storage /shared/runs"
            return [Finding(WRONG, "storage", f"{where}: the results would go with the pod", mend=mend)]
        if wanted:
            found = rules.storage(where, wanted[1])
            if found.level == WRONG or "://" in wanted[1]:
                return [found]
        pods = {group: self._mounts(group) for group in (self._head, *self._workers)}
        folders = {path for mounts in pods.values() for path in mounts}
        if wanted:
            folders = {path for path in folders if f"{wanted[1]}/".startswith(f"{path.rstrip('/')}/")}
            if not folders:
                return [Finding(WRONG, "storage", f"{where}: no pod mounts {wanted[1]}", mend="volumes, volumeMounts")]
        elif not folders:
            return [Finding(NOTE, "storage", "no pod mounts a folder: sweeps must go to s3://...")]
        return [self._volume(folder, pods) for folder in sorted(folders)]

    def _volume(self, folder: str, pods: dict[Path_, dict[str, tuple[str, Any]]]) -> Finding:
        for group, mounts in pods.items():
            kind, detail = mounts.get(folder, ("", None))
            who = f"{self._where(*self._ray_container(group))}: {folder}"
            if kind == "emptyDir":
                return Finding(WRONG, "storage", f"{who} is an emptyDir, which goes with its pod", mend=CLAIM)
            if (kind, detail) != pods[self._head].get(folder):
                return Finding(WRONG, "storage", f"{who} is not one volume in all pods", mend="the same volumes in all")
            if kind == "hostPath":
                return Finding(NOTE, "storage", f"{who} is a folder of each machine: all must have mounted it")
        return Finding(OK, "storage", f"{folder} in all pods")

    def _rejoins(self) -> Finding:
        for group in self._workers:
            path = (*group, "template", "spec", "restartPolicy")
            if self._at(*path) not in (None, "Always") and not self._at(*self._root, "enableInTreeAutoscaling"):
                detail = f"{self._where(*path)}: a pod whose Ray ends, after a cut, would stay without it"
                return Finding(WRONG, "rejoining", detail, mend="restartPolicy: Always")
        return Finding(OK, "rejoining", "a pod whose Ray ends is started again")

    def _dashboard(self) -> Finding:
        open_to_all = [
            (*self._head, "serviceType"),
            (*self._head, "headService", "spec", "type"),
            (*self._head, "enableIngress"),
        ]
        for path in open_to_all:
            if self._at(*path) in ("NodePort", "LoadBalancer", True):
                detail = f"{self._where(*path)}: Ray's ports and its dashboard would be open to all"
                return Finding(WRONG, "dashboard", detail, mend="serviceType: ClusterIP, and kubectl port-forward")
        path = (*self._head, "rayStartParams", "dashboard-host")
        if self._is_job:
            return Finding(OK, "dashboard", "inside Kubernetes, for KubeRay")
        if self._at(*path) not in rules.LOOPBACK:
            host = self._at(*path) or "0.0.0.0, KubeRay's default"
            detail = f"{self._where(*path)}: Ray's dashboard listens on {host}"
            return Finding(WRONG, "dashboard", detail, mend="dashboard-host: 127.0.0.1, and kubectl port-forward")
        return Finding(OK, "dashboard", "on 127.0.0.1 of the head")
