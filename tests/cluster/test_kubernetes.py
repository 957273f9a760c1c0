from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import yaml
from lightkube.models.batch_v1 import CronJob
from lightkube.models.core_v1 import Namespace, ServiceAccount
from lightkube.models.networking_v1 import NetworkPolicy
from lightkube.models.rbac_v1 import Role, RoleBinding

from tests.cluster.kuberay_fields import RayCluster, RayCronJob, RayJob
from tests.cluster.strict import check

FOLDER = Path(__file__).parents[2] / "cluster" / "kuberay"
KINDS = {
    ("v1", "Namespace"): Namespace,
    ("v1", "ServiceAccount"): ServiceAccount,
    ("networking.k8s.io/v1", "NetworkPolicy"): NetworkPolicy,
    ("rbac.authorization.k8s.io/v1", "Role"): Role,
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): RoleBinding,
    ("batch/v1", "CronJob"): CronJob,
    ("ray.io/v1", "RayCluster"): RayCluster,
    ("ray.io/v1", "RayJob"): RayJob,
    ("ray.io/v1", "RayCronJob"): RayCronJob,
}


def objects(name: str) -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def one(name: str, kind: str) -> dict:
    (found,) = (item for item in objects(name) if item["kind"] == kind)
    return found


ALL = [
    pytest.param(item, id=f"{path.name}-{item['kind']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    for item in objects(path.name)
]


def pods() -> list:
    """Every pod template, with where it is from."""
    found = []

    def walk(value, where):
        if isinstance(value, dict):
            if "containers" in value:
                found.append(pytest.param(value, id=where))
            for key, item in value.items():
                walk(item, f"{where}.{key}")
        elif isinstance(value, list):
            for number, item in enumerate(value):
                walk(item, f"{where}.{number}")

    for path in sorted(FOLDER.glob("*.yaml")):
        for item in objects(path.name):
            walk(item, f"{path.stem}-{item['kind']}")
    return found


@pytest.mark.parametrize("item", ALL)
def test_every_field_is_one_that_the_server_knows(item):
    check(item, KINDS[item["apiVersion"], item["kind"]], item["kind"])
    name = item["metadata"].get("name") or item["metadata"]["generateName"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9-])?", name)
    assert item["kind"] == "Namespace" or item["metadata"]["namespace"] == "frameledger"


def test_every_kind_is_there():
    kinds = {item.values[0]["kind"] for item in ALL}
    assert kinds == {kind for _, kind in KINDS}


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("spec", "submisionMode"), "HTTPMode", "RayJob.spec.submisionMode: RayJobSpec has no"),
        (("spec", "submissionMode"), "HttpMode", "is none of 'K8sJobMode'"),
        (("spec", "backoffLimit"), "0", "RayJob.spec.backoffLimit: int is expected, not '0'"),
        (
            ("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "runtimeclass"),
            "nvidia",
            "workerGroupSpecs[0].template.spec.runtimeclass: PodSpec has no such field",
        ),
        (
            ("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"),
            0,
            "rayStartParams.num-cpus: str is expected, not 0",
        ),
        (
            ("spec", "rayClusterSpec", "headGroupSpec"),
            {},
            "headGroupSpec.rayStartParams: is missing",
        ),
    ],
)
def test_what_the_server_would_not_know_is_told(path, value, problem):
    job = copy.deepcopy(one("rayjob.yaml", "RayJob"))
    inner = job
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=re.escape(problem)):
        check(job, RayJob, "RayJob")


@pytest.mark.parametrize("pod", pods())
def test_no_pod_is_root(pod):
    """What a namespace with the restricted pod security standard asks for."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
    assert all("hostPath" not in volume for volume in pod.get("volumes", ()))


def clusters() -> list[dict]:
    return [
        one("raycluster.yaml", "RayCluster")["spec"],
        one("rayjob.yaml", "RayJob")["spec"]["rayClusterSpec"],
    ]


def test_both_clusters_are_the_same():
    standing, own = clusters()
    assert standing == own


def test_a_cluster_asks_for_its_token_and_is_not_public():
    for spec in clusters():
        assert spec["authOptions"]["mode"] == "token"
        assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert spec["autoscalerOptions"]["securityContext"]["allowPrivilegeEscalation"] is False
        for group in spec["workerGroupSpecs"]:
            assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for text in (path.read_text() for path in FOLDER.glob("*.yaml")):
        assert "kind: Secret" not in text
        assert not re.search(r"LoadBalancer|NodePort|kind: Ingress\b", text)


def test_the_policy_selects_the_pods_of_the_clusters():
    labels = one("base.yaml", "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    for spec in clusters():
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert group["template"]["metadata"]["labels"] == labels


def test_a_schedule_runs_what_a_run_by_hand_runs():
    job = one("rayjob.yaml", "RayJob")["spec"]
    template = one("raycronjob.yaml", "RayCronJob")["spec"]["jobTemplate"]
    assert "rayClusterSpec" not in template
    assert {key: template[key] for key in template if key != "clusterSelector"} == {
        key: job[key] for key in template if key != "clusterSelector"
    }
    standing = one("raycluster.yaml", "RayCluster")["metadata"]["name"]
    assert template["clusterSelector"] == {"ray.io/cluster": standing}


def test_a_failure_cannot_end_as_a_success():
    job = one("rayjob.yaml", "RayJob")["spec"]
    assert job["submissionMode"] == "HTTPMode"  # No submitter that could be tried again.
    assert job["backoffLimit"] == 0
    assert job["shutdownAfterJobFinishes"] is True
    cron = one("cronjob.yaml", "CronJob")["spec"]["jobTemplate"]["spec"]
    assert cron["backoffLimit"] == 0
    assert cron["template"]["spec"]["restartPolicy"] == "Never"


def test_the_schedule_may_create_runs_and_nothing_else():
    role = one("cronjob.yaml", "Role")
    assert role["rules"] == [
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}
    ]
    binding = one("cronjob.yaml", "RoleBinding")
    account = one("cronjob.yaml", "ServiceAccount")["metadata"]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [subject["name"] for subject in binding["subjects"]] == [account]
    pod = one("cronjob.yaml", "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account
