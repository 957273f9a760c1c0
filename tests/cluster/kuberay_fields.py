"""The fields of KubeRay's objects that cluster/kuberay uses, with their types.

After the CRDs of KubeRay v1.7.0 (ray.io/v1). What Kubernetes itself defines in them (pod templates,
resources, security contexts) is lightkube's.
"""

from __future__ import annotations

from typing import Literal

from lightkube.models.core_v1 import PodTemplateSpec, ResourceRequirements, SecurityContext
from lightkube.models.meta_v1 import ObjectMeta
from msgspec import Struct


class AuthOptions(Struct):
    mode: Literal["disabled", "token"] | None = None
    secretName: str | None = None


class AutoscalerOptions(Struct):
    version: Literal["v1", "v2"] | None = None
    idleTimeoutSeconds: int | None = None
    resources: ResourceRequirements | None = None
    securityContext: SecurityContext | None = None


class HeadGroupSpec(Struct):
    rayStartParams: dict[str, str]
    template: PodTemplateSpec
    serviceType: Literal["ClusterIP"] | None = None
    """KubeRay takes others too; ours are not to be seen from outside."""


class WorkerGroupSpec(Struct):
    groupName: str
    maxReplicas: int
    minReplicas: int
    rayStartParams: dict[str, str]
    template: PodTemplateSpec
    replicas: int | None = None


class RayClusterSpec(Struct):
    headGroupSpec: HeadGroupSpec
    rayVersion: str | None = None
    authOptions: AuthOptions | None = None
    enableInTreeAutoscaling: bool | None = None
    autoscalerOptions: AutoscalerOptions | None = None
    workerGroupSpecs: list[WorkerGroupSpec] | None = None


class RayJobSpec(Struct):
    entrypoint: str | None = None
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] | None = (
        None
    )
    backoffLimit: int | None = None
    activeDeadlineSeconds: int | None = None
    shutdownAfterJobFinishes: bool | None = None
    ttlSecondsAfterFinished: int | None = None
    clusterSelector: dict[str, str] | None = None
    rayClusterSpec: RayClusterSpec | None = None


class RayCronJobSpec(Struct):
    schedule: str
    jobTemplate: RayJobSpec
    timeZone: str | None = None
    suspend: bool | None = None


class RayCluster(Struct):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: ObjectMeta
    spec: RayClusterSpec


class RayJob(Struct):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: ObjectMeta
    spec: RayJobSpec


class RayCronJob(Struct):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCronJob"]
    metadata: ObjectMeta
    spec: RayCronJobSpec
