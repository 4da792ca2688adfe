"""``cluster check``: the files of ``cluster/`` pass, and what is wrong with damaged ones is said, with its line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from go1_sweep import cli

CLUSTER = Path(__file__).parent.parent / "cluster"
FILES = sorted(path.name for path in CLUSTER.iterdir() if path.name != "README.md")

RAY_UP = "on_premise.yaml"
OFF = ("export RAY_AUTH_MODE=token; ray start --address", "ray start --address")
KEY = "  ~/.ray/auth_token: ~/.ray/auth_token\n"
CLAIM = "persistentVolumeClaim: {claimName: go1-sweep-runs}"
LIMITS = ', nvidia.com/gpu: "1"}\n                volumeMounts'
TAG = "go1_sweep:0.1.0-ray2.60.0"
POD = "            securityContext: {fsGroup: 1000}\n            containers:\n              - name: ray-worker"
LOOP = "while true; do\n        ray"


@pytest.fixture
def said(tmp_path, capsys):
    """Checks a file of ``cluster/`` in which something was replaced; gives the exit code and all that is said."""

    def check(name: str, *changes: tuple[str, str]) -> tuple[int, str]:
        content = (CLUSTER / name).read_text()
        for old, new in changes:
            assert old in content
            content = content.replace(old, new, 1)
        (tmp_path / name).write_text(content)
        code = cli.main(["cluster", "check", str(tmp_path / name)])
        out, err = capsys.readouterr()
        return code, (out + err).replace(f"{tmp_path}/", "")

    return check


@pytest.mark.parametrize("name", FILES)
def test_the_files_of_the_repository_are_fine(said, name):
    code, text = said(name)
    assert code == 0
    assert "wrong" not in text and text.endswith(f"{name}: fine\n")


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        # The shape.
        (RAY_UP, "head_ip", "head_up", "on_premise.yaml: Please supply a `head_ip`"),
        (
            RAY_UP,
            "rsync_exclude:",
            "rsync_exclud:",
            "on_premise.yaml:{line}: rsync_exclud: there is no such key; did you mean",
        ),
        (
            "aws.yaml",
            "max_workers: 4\nidle",
            "max_worker: 4\nidle",
            "max_worker: there is no such key; did you mean 'max_w",
        ),
        (
            "aws.yaml",
            "head_node_type: head",
            "head_node_type: haed",
            "`head_node_type` must be one of `available_node_types`",
        ),
        (
            "aws.yaml",
            "min_workers: 4 ",
            "min_workers: four ",
            "available_node_types.gpu.min_workers: expected integer, not",
        ),
        (
            "raycluster.yaml",
            "image:",
            "imge:",
            "spec.headGroupSpec.template.spec.containers.0.imge: there is no such key",
        ),
        ("raycluster.yaml", 'num-cpus: "0"', "num-cpus: 0", "rayStartParams.num-cpus: expected string, not 0"),
        ("raycluster.yaml", "minReplicas: 4", "", "without the autoscaler KubeRay wants minReplicas and maxReplicas"),
        ("raycluster.yaml", "kind: RayCluster", "kind: RayJob", "spec.headGroupSpec: there is no such key"),
        ("rayjob.yaml", "backoffLimit: 2", "backoffLimit: two", "spec.backoffLimit: expected integer, not 'two'"),
        ("slurm.sh", "until (", "(", "slurm.sh:{line}: syntax error"),
        (
            "slurm.sh",
            "set -euo pipefail",
            "set -eu\n#SBATCH --mem=0",
            "Slurm reads no #SBATCH after the first command (line {line})",
        ),
        ("Dockerfile.mjlab", "WORKDIR", "WRKDIR", "Dockerfile.mjlab:{line}: WRKDIR is no instruction of a Dockerfile"),
        (
            "Dockerfile.mjlab",
            ":3.11.13-slim-bookworm",
            "",
            "Dockerfile.mjlab:{line}: python is another image every month",
        ),
        # Versions.
        (
            "raycluster.yaml",
            "rayVersion: 2.60.0",
            "rayVersion: 2.59.1",
            "rayVersion 2.59.1, and this machine has 2.60.0",
        ),
        (
            "rayjob.yaml",
            TAG,
            "go1_sweep:0.1.0-ray2.59.1",
            "the tag of image registry.example.org/go1_sweep:0.1.0-ray2.59.1",
        ),
        ("rayjob.yaml", TAG, "go1_sweep:latest", "does not say ray 2.60.0 and go1_sweep 0.1.0, which this machine has"),
        (
            RAY_UP,
            "-c constraints.txt -e '.[",
            "'ray[default]==2.59.1' -e '.[",
            "ray 2.59.1, and this machine has 2.60.0",
        ),
        ("aws.yaml", "-c constraints.txt -e", "-e", "aws.yaml: nothing says which version of Ray is installed"),
        ("Dockerfile.mjlab", "-c constraints.txt -e", "'ray[tune]' -e", ":{line}: whichever Ray is the newest then"),
        # The token.
        (RAY_UP, *OFF, "on_premise.yaml:{line}: workers would start without a token"),
        (RAY_UP, "export RAY_AUTH_MODE=token;", "", "the head would start without a token"),
        (RAY_UP, KEY, "", "the nodes do not get it; mend: file_mounts"),
        (
            RAY_UP,
            "RAY_AUTH_MODE=token;",
            "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=5f0c;",
            "Ray's token itself stands in the file",
        ),
        (
            "raycluster.yaml",
            "{mode: token}",
            "{mode: disabled}",
            "the head would start without a token; mend: authOptions",
        ),
        (
            "raycluster.yaml",
            "- name: ray-worker\n",
            "- name: ray-worker\n              env: [{name: RAY_AUTH_MODE, value: disabled}]\n",
            "workers would start without a token",
        ),
        (
            "slurm.sh",
            "export RAY_AUTH_MODE=token ",
            "export ",
            "Ray would start without a token, here and on the other nodes",
        ),
        (
            "Dockerfile.mjlab",
            "RAY_AUTH_MODE=token",
            "X=1",
            "Dockerfile.mjlab: Ray would start without a token where nothing",
        ),
        (
            "Dockerfile.isaaclab",
            "RAY_AUTH_MODE=",
            "RAY_AUTH_TOKEN=12 RAY_AUTH_MODE=",
            "Ray's token itself stands in the file",
        ),
        # GPUs for trials, and a head without them.
        (RAY_UP, "[192.0.2.11, 192.0.2.12]", "[]", "no worker, hence no GPU for trials"),
        ("aws.yaml", "{CPU: 8, GPU: 1}", "{CPU: 8}", "no worker type has one for trials"),
        (
            "aws.yaml",
            "min_workers: 4",
            "min_workers: 0",
            "aws.yaml:{line}: the cluster begins with no worker that has one, and a sweep asks for none; mend: min_w",
        ),
        (
            "rayjob.yaml",
            LIMITS,
            "}\n                volumeMounts",
            "no worker group has one for trials",
        ),
        ("slurm.sh", "#SBATCH --gpus-per-node=4\n", "", "slurm.sh: the job asks for none, and trials want them"),
        ("Dockerfile.mjlab", "compute,utility", "utility", "NVIDIA's runtime would give it no GPU to compute on"),
        ("aws.yaml", "--num-cpus=0 --num-gpus=0", "", "it would take trials, beside the driver"),
        ("raycluster.yaml", '      num-cpus: "0"', "", "it would take trials, beside the driver"),
        # Storage.
        (RAY_UP, "storage: /shared/runs", "storage: /tmp/runs", "/tmp/runs is seen by one node only"),
        (RAY_UP, "mountpoint -q /shared ", "true ", "no setup command mounts /shared/runs"),
        ("aws.yaml", "metadata: {storage: /shared/runs}", "", "aws.yaml: the file does not say where sweeps go"),
        ("storage.yaml", "ReadWriteMany", "ReadWriteOnce", "storage.yaml:{line}: one node only may write"),
        ("raycluster.yaml", CLAIM, "emptyDir: {}", "/shared is an emptyDir, which goes with its pod"),
        ("rayjob.yaml", CLAIM, "persistentVolumeClaim: {claimName: b}", "/shared is not one volume in all pods"),
        ("rayjob.yaml", "--storage /shared/runs", "--storage /data/runs", "no pod mounts /data/runs"),
        ("rayjob.yaml", "--storage /shared/runs", "", "the results would go with the pod"),
        (
            "slurm.sh",
            "rough.yaml --storage /shared/runs   ",
            "rough.yaml --storage runs   ",
            "runs is a path of one node's",
        ),
        # A node that was cut off comes back.
        (RAY_UP, "unset RAY_enable_autoscaler_v2", "unset X", "takes a local head for one of the workers"),
        (
            RAY_UP,
            "type: local",
            "type: local\n  disable_node_updaters: true",
            "nobody starts Ray anew on a node that was cut",
        ),
        ("slurm.sh", LOOP, "{\n        ray", "a node that was cut off would stay without Ray"),
        ("slurm.sh", "--disable-usage-stats --block ||", "--disable-usage-stats ||", "would stay without Ray"),
        (
            "rayjob.yaml",
            POD,
            POD.replace("securityContext: {fsGroup: 1000}", "restartPolicy: Never"),
            "a pod whose Ray ends, after a cut, would stay without it",
        ),
        # The dashboard.
        (
            RAY_UP,
            "--dashboard-host=127.0.0.1",
            "--dashboard-host=0.0.0.0",
            "Ray's dashboard listens on 0.0.0.0, for whoever",
        ),
        (
            "slurm.sh",
            "--dashboard-host=127.0.0.1",
            "--dashboard-host 0.0.0.0",
            "Ray's dashboard listens on 0.0.0.0, for",
        ),
        (
            "raycluster.yaml",
            "      dashboard-host: 127.0.0.1\n",
            "",
            "Ray's dashboard listens on 0.0.0.0, KubeRay's default",
        ),
        ("rayjob.yaml", "serviceType: ClusterIP", "serviceType: LoadBalancer", "its dashboard would be open to all"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(said, name, old, new, sentence):
    code, text = said(name, (old, new))
    line = (CLUSTER / name).read_text().partition(old)[0].count("\n") + 1
    assert code == 1
    assert sentence.replace("{line}", str(line)) in text
    assert "Traceback" not in text


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_pods_with_gpus_that_nobody_starts_are_told(said, name):
    code, text = said(name, (" replicas: 4", " replicas: 0"), ("minReplicas: 4", "minReplicas: 0"))
    assert code == 1
    assert "the cluster begins with no pod that has one, and a sweep asks for none; mend: minReplicas" in text
    assert said(name, (" replicas: 4", " replicas: 0"))[0] == 0, "KubeRay starts the least that is allowed"


def test_all_faults_are_told_at_once(said):
    code, text = said(RAY_UP, OFF, ("storage: /shared", "storage: /tmp"), ("--dashboard-host=127.0.0.1", ""), (KEY, ""))
    assert code == 1
    assert text.count("wrong ") == 3
    assert "error: on_premise.yaml has 3 faults: token, storage" in text


def test_a_job_for_a_cluster_that_is_there_refers_to_its_file(said):
    code, text = said(
        "rayjob.yaml", ("  rayClusterSpec:", "  clusterSelector: {ray.io/cluster: go1-sweep}\n  rayClusterSpec:")
    )
    assert code == 0
    assert "note     cluster: is there already: check its own file" in text


def test_what_runs_beside_ray_in_its_pods_is_of_any_version(said):
    other = "          - {name: logs, image: fluent-bit:4.0.1}\n"
    assert said("raycluster.yaml", ("        volumes: [", f"{other}        volumes: ["))[0] == 0


def test_the_head_of_machines_that_are_there_may_take_trials(said):
    code, text = said(RAY_UP, ("--num-cpus=0 --num-gpus=0", ""))
    assert code == 0
    assert "it would take trials, beside the driver" in text


def test_storage_in_a_bucket_needs_no_mount(said):
    for name, changes in {
        RAY_UP: [("storage: /shared/runs", "storage: s3://bucket/runs"), ("mountpoint -q /shared ", "uname ")],
        "rayjob.yaml": [("--storage /shared/runs", "--storage s3://bucket/runs")],
        "slurm.sh": [("rough.yaml --storage /shared/runs   ", "rough.yaml --storage s3://bucket/runs   ")],
    }.items():
        code, text = said(name, *changes)
        assert code == 0
        assert "storage: s3://bucket/runs" in text


def test_what_is_still_to_be_changed_is_named(said):
    _, text = said("aws.yaml")
    assert "note     to be changed: aws.yaml:27: ami-CHANGE-ME\n" in text


def test_several_documents_in_one_file_are_all_checked(said, tmp_path):
    claim = (CLUSTER / "storage.yaml").read_text().replace("ReadWriteMany", "ReadWriteOnce")
    code, text = said("rayjob.yaml", ("apiVersion", f"{claim}---\napiVersion"))
    assert code == 1
    assert "a RayJob of KubeRay" in text and "one node only may write" in text


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("no_such.yaml", None, "no_such.yaml: no such file"),
        (
            "rough.yaml",
            "name: rough\ntask: rough\n",
            "rough.yaml is of no known kind: a file for ray up, a RayCluster, a",
        ),
        ("deployment.yaml", "apiVersion: apps/v1\nkind: Deployment\n", "deployment.yaml is of no known kind"),
        ("start.sh", "#!/bin/sh\nray start --head\n", "start.sh is of no known kind"),
        ("empty.yaml", "", "empty.yaml is of no known kind"),
        (
            "list.yaml",
            "- a\n",
            "list.yaml: a file that starts a cluster is a mapping of keys to values, this is a list",
        ),
        ("tab.yaml", "provider:\n\ttype: aws\n", "tab.yaml:2: not YAML"),
        (
            "twice.yaml",
            "cluster_name: a\ncluster_name: b\n",
            "twice.yaml:2: cluster_name stands here again, after line 1",
        ),
    ],
)
def test_what_is_no_file_of_a_cluster_is_refused(tmp_path, capsys, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert cli.main(["cluster", "check", str(tmp_path / name)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        "cluster_name: 5\nprovider: 7\n",
        "cluster_name: a\nprovider: {type: local}\n",
        "cluster_name: a\nprovider: {type: moon}\nfile_mounts: [a]\nhead_start_ray_commands: {a: b}\n",
        "provider: {type: aws}\navailable_node_types: {a: 5, b: {resources: [1]}}\nmetadata: []\ncluster_name: []\n",
        "kind: RayCluster\n",
        "kind: RayCluster\nspec: {headGroupSpec: 5, workerGroupSpecs: [7, {template: {spec: {volumes: [4]}}}]}\n",
        "kind: RayJob\nspec: {entrypoint: [a], rayClusterSpec: {authOptions: token, workerGroupSpecs: 6}}\n",
        "kind: RayCluster\nspec: {workerGroupSpecs: [template: {spec: {containers: [resources: {limits: [a]}]}}]}\n",
        "kind: PersistentVolumeClaim\nspec: 5\n",
    ],
)
def test_a_file_of_another_shape_is_told_and_nothing_else(tmp_path, capsys, content):
    file = tmp_path / "a.yaml"
    file.write_text(content)
    assert cli.main(["cluster", "check", str(file)]) == 1
    out, err = capsys.readouterr()
    assert "wrong" in out and err.startswith(f"error: {file} has ")


def test_without_bash_a_batch_script_is_looked_at_all_the_same(said, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    code, text = said("slurm.sh")
    assert code == 0
    assert "note     schema: bash is not here" in text


def test_the_action_is_named(capsys):
    assert cli.main(["cluster", "chek", "x.yaml"]) == 2
    assert "invalid choice: 'chek'" in capsys.readouterr().err
