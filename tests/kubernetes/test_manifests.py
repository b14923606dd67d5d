"""What `kubectl kustomize` makes of the overlays: valid, hardened, without loose ends.

No cluster has seen them here; see docs/kubernetes.md for what that leaves open.
"""

import copy
import dataclasses
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubectl import OVERLAYS

from common.logging import LEVEL_VARIABLE
from common.variables import variable_of
from learner.config import RunConfig
from sampler.options import SamplerOptions
from wiserl.flags import GeneralFlags, ServeFlags

VERSIONS = [f"1.{minor}" for minor in range(30, 38)]
NOT_OF_KUBERNETES = {"PodMonitor", "PrometheusRule", "ScaledObject"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(params=OVERLAYS)
def documents(rendered, request):
    return copy.deepcopy(rendered[request.param])


def of_kind(documents, kind):
    return [each for each in documents if each["kind"] == kind]


def pods(documents):
    """The pod of each workload, by its name."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in documents
        if each["kind"] in {"StatefulSet", "Deployment"}
    }


def invalid(document, version):
    """Why a document is none of a version of Kubernetes; empty where it is one."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return "" if document["kind"] in NOT_OF_KUBERNETES else "no schema"
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""


def lacking(pod):
    """What of the hardening a pod lacks."""
    outer = pod.get("securityContext", {})
    wanted = {
        "runAsNonRoot": outer.get("runAsNonRoot") is True,
        "runAsUser": outer.get("runAsUser") == 10001,
        "seccompProfile": outer.get("seccompProfile") == {"type": "RuntimeDefault"},
        "automountServiceAccountToken": pod.get("automountServiceAccountToken") is False,
        "serviceAccountName": pod.get("serviceAccountName") not in {None, "default"},
        "no host namespaces": not {"hostNetwork", "hostPID", "hostIPC"} & set(pod),
    }
    for container in pod["containers"]:
        inner, limits = container.get("securityContext", {}), container.get("resources", {})
        wanted |= {
            "allowPrivilegeEscalation": inner.get("allowPrivilegeEscalation") is False,
            "readOnlyRootFilesystem": inner.get("readOnlyRootFilesystem") is True,
            "capabilities": inner.get("capabilities") == {"drop": ["ALL"]},
            "requests": {"cpu", "memory"} <= set(limits.get("requests", {})),
            "limits": "memory" in limits.get("limits", {}),
            **{name: name in container for name in PROBES},
        }
    return {name for name, there in wanted.items() if not there}


PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_one_of_kubernetes(documents, version):
    faults = {each["metadata"]["name"]: invalid(each, version) for each in documents}
    assert {name: fault for name, fault in faults.items() if fault} == {}


def test_what_is_no_document_is_noticed(rendered):
    for document in rendered["cpu"]:
        broken = copy.deepcopy(document)
        broken["surprise"] = 1
        assert invalid(broken, "1.37")


def test_pods_are_hardened(documents):
    assert set(pods(documents)) == {"learner", "sampler"}
    for name, pod in pods(documents).items():
        assert lacking(pod) == set(), name


def test_what_a_pod_lacks_is_noticed(rendered):
    sound = pods(rendered["cpu"])["learner"]

    def without(*path):
        pod = copy.deepcopy(sound)
        place = pod
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]
        return lacking(pod)

    for name in ("runAsNonRoot", "runAsUser", "seccompProfile"):
        assert without("securityContext", name) == {name}
    for name in ("automountServiceAccountToken", "serviceAccountName"):
        assert without(name) == {name}
    for name in ("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"):
        assert without("containers", 0, "securityContext", name) == {name}
    for name in ("requests", "limits"):
        assert without("containers", 0, "resources", name) == {name}
    for name in PROBES:
        assert without("containers", 0, name) == {name}
    assert lacking(sound | {"hostNetwork": True}) == {"no host namespaces"}


def test_the_namespace_lets_nothing_less_in(documents):
    (namespace,) = of_kind(documents, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"].get("namespace", "wiserl") for each in documents} == {"wiserl"}


def test_names_lead_somewhere(documents):
    there = {(each["kind"], each["metadata"]["name"]) for each in documents}
    for pod in pods(documents).values():
        assert ("ServiceAccount", pod["serviceAccountName"]) in there
        claims = {"runs"}
        volumes = {volume["name"] for volume in pod["volumes"]} | claims
        for volume in pod["volumes"]:
            if "secret" in volume:
                assert ("Secret", volume["secret"]["secretName"]) in there
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            for source in container.get("envFrom", []):
                assert ("ConfigMap", source["configMapRef"]["name"]) in there
            ports = {port["name"] for port in container["ports"]}
            assert {container[name]["httpGet"]["port"] for name in PROBES} <= ports


def test_every_variable_is_a_flag_s(documents):
    options = (ServeFlags, SamplerOptions, GeneralFlags, RunConfig)
    flags = {variable_of(field.name) for each in options for field in dataclasses.fields(each)} | {
        LEVEL_VARIABLE
    }
    named = {
        each["name"]
        for pod in pods(documents).values()
        for container in pod["containers"]
        for each in container["env"]
    }
    for each in of_kind(documents, "ConfigMap"):
        named |= set(each["data"])
    assert named <= flags


def test_the_network_lets_only_the_few_edges_through(rendered):
    for overlay in ("cpu", "gpu"):
        policies = {
            each["metadata"]["name"]: each["spec"]
            for each in of_kind(rendered[overlay], "NetworkPolicy")
        }
        assert policies["default-deny"]["policyTypes"] == ["Ingress", "Egress"]
        assert not {"ingress", "egress"} & set(policies["default-deny"])
        ports = {
            name: sorted(
                (direction, str(port["port"]))
                for direction in ("ingress", "egress")
                for rule in spec.get(direction, [])
                for port in rule["ports"]
            )
            for name, spec in policies.items()
        }
        assert ports == {
            "default-deny": [],
            "learner": [("ingress", "grpc")],
            "sampler": [("egress", "53"), ("egress", "53"), ("egress", "grpc")],
            "monitoring": [("ingress", "status")],
        }


def test_the_alerts_are_those_of_compose(rendered):
    (rule,) = of_kind(rendered["gpu"], "PrometheusRule")
    alerts = Path(__file__).parents[2] / "deploy/prometheus/alerts.yml"
    assert rule["spec"] == yaml.safe_load(alerts.read_text())
    jobs = {
        relabeling["replacement"]
        for monitor in of_kind(rendered["gpu"], "PodMonitor")
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
        for relabeling in endpoint["relabelings"]
    }
    assert jobs == {"wiserl-learner", "wiserl-sampler"}  # `up{job=...}` asks for them


def test_the_gpu_overlay(rendered):
    learner = pods(rendered["gpu"])["learner"]["containers"][0]
    assert learner["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert learner["image"] == "wiserl-learner:cuda"
    (configuration,) = of_kind(rendered["gpu"], "ConfigMap")
    assert configuration["data"]["WISERL_DEVICE"] == "cuda"
    (deployment,) = of_kind(rendered["gpu"], "Deployment")
    assert "replicas" not in deployment["spec"]  # they are KEDA's
