"""What the overlay `local` renders runs under podman, and what of it podman does not act on."""

import json
import os

import kubectl
import pytest
import set_up
from compose_project import until
from podman_pods import LEARNER, Podman, pod_of

OWN = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: wiserl
resources: [../local]
configMapGenerator:
  - {name: run, behavior: merge, literals: [WISERL_TOTAL_STEPS=60000]}
"""
"""An overlay of one's own, as docs/kubernetes.md has it."""

ACTED_ON = {
    "ConfigMap": {"data"},
    "Secret": {"data"},
    "StatefulSet": {
        "spec.template.metadata.labels",
        "spec.volumeClaimTemplates.metadata.name",
    },
    "Deployment": {"spec.replicas", "spec.template.metadata.labels"},
    "pod": {
        "containers.args",
        "containers.env",
        "containers.envFrom",
        "containers.image",
        "containers.imagePullPolicy",
        "containers.name",
        "containers.resources.limits.memory",
        "containers.resources.requests.memory",
        "containers.securityContext",
        "containers.volumeMounts",
        "securityContext.runAsGroup",
        "securityContext.runAsUser",
        "volumes.name",
        "volumes.secret.secretName",
    },
}
"""Fields that show in the pods that run, each asserted below."""

NOT_ACTED_ON = {
    "ConfigMap": {},
    "Secret": {"type": "all are files to podman"},
    "StatefulSet": {
        "spec.replicas": "podman knows no StatefulSet: its one pod is played as such",
        "spec.selector": "as above",
        "spec.serviceName": "as above; the pod's own name stands in for the Service's",
        "spec.persistentVolumeClaimRetentionPolicy": "as above",
        "spec.volumeClaimTemplates.metadata.labels": "nobody selects volumes",
        "spec.volumeClaimTemplates.spec": "a volume is a folder, of any size, for any pod",
    },
    "Deployment": {
        "spec.selector": "nobody looks for pods",
        "spec.strategy": "there are no updates",
    },
    "pod": {
        "automountServiceAccountToken": "there is no API server to have a token of",
        "containers.livenessProbe": "becomes curl, which the images lack, called by systemd",
        "containers.ports": "taken out: podman would publish them on this machine",
        "containers.readinessProbe": "there is no Service to take a pod out of",
        "containers.resources.limits.ephemeral-storage": "there is no kubelet to evict",
        "containers.resources.requests.cpu": "there is no scheduler",
        "containers.resources.requests.ephemeral-storage": "there is no scheduler",
        "containers.startupProbe": "of podman 4.3 there is none",
        "enableServiceLinks": "there are no Services",
        "securityContext.fsGroup": "files of secrets are readable to all instead",
        "securityContext.fsGroupChangePolicy": "as above",
        "securityContext.runAsNonRoot": "nothing checks it; who it runs as is asserted",
        "securityContext.seccompProfile": "podman's own default filter is in force",
        "serviceAccountName": "there are no accounts",
        "terminationGracePeriodSeconds": "podman waits 10 s",
        "topologySpreadConstraints": "there is one machine",
        "volumes.emptyDir": "a folder on disk without a limit, shared by pods that name it alike",
        "volumes.secret.defaultMode": "they are 0644",
    },
}
"""And the others, with the reason; these are validated against schemas only."""

KINDS_NOT_PLAYED = {
    "Namespace": "there is one",
    "ServiceAccount": "there are no accounts",
    "Service": "pods are found by their own names",
    "PodDisruptionBudget": "nobody evicts pods",
    "NetworkPolicy": "every pod reaches every other",
    "ScaledObject": "KEDA's: nobody scales",
    "PodMonitor": "the Prometheus operator's: nobody scrapes",
    "PrometheusRule": "the Prometheus operator's: nobody watches",
}

MAPS = {"labels", "data"}
EVERYWHERE = {"apiVersion", "kind", "metadata.name", "metadata.namespace", "metadata.labels"}


def leaves(value, path=""):
    """The paths of all fields of a document, without places in lists; labels and data are one."""
    if isinstance(value, dict) and path.rpartition(".")[2] not in MAPS:
        return {
            leaf
            for key, inner in value.items()
            for leaf in leaves(inner, f"{path}.{key}".lstrip("."))
        }
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return {leaf for each in value for leaf in leaves(each, path)}
    return {path}


def fields(documents):
    """All fields of documents that are played, by kind; those of a workload's pod under `pod`."""
    found = {"pod": set()}
    for document in documents:
        kind, inside = document["kind"], "spec.template.spec."
        if kind in KINDS_NOT_PLAYED:
            continue
        for leaf in leaves(document) - EVERYWHERE:
            place, name = ("pod", leaf.removeprefix(inside)) if inside in leaf else (kind, leaf)
            found.setdefault(place, set()).add(name)
    return found


def covered(leaf, table):
    return any(leaf == entry or leaf.startswith(f"{entry}.") for entry in table)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    return kubectl.render(tmp_path_factory.mktemp("kubernetes"), own=OWN)


def test_of_every_field_it_is_said_whether_podman_acts_on_it(rendered):
    """A new field or kind has to be put down above, and what is gone to be taken out."""
    kinds = {each["kind"] for documents in rendered.values() for each in documents}
    assert kinds == set(ACTED_ON) - {"pod"} | set(KINDS_NOT_PLAYED)
    for place, names in fields(rendered["own"]).items():
        acted, ignored = ACTED_ON[place], NOT_ACTED_ON[place]
        assert {leaf for leaf in names if not covered(leaf, acted | set(ignored))} == set(), place
        idle = {
            entry for entry in acted | set(ignored) if not any(covered(n, {entry}) for n in names)
        }
        assert idle == set(), place


@pytest.fixture
def pods(rendered, tmp_path, request, learner_image, sampler_image):
    set_up.done_by("podman.sh")
    played = Podman(tmp_path, rendered["own"], f"wiserl-test-{os.getpid()}")
    played.remove()
    for image in (learner_image, sampler_image):
        played.load(image)
    yield played
    if request.session.testsfailed:
        print(played.logs())
    played.remove()


def test_the_pods_train(pods, rendered):
    workloads = {
        each["metadata"]["name"]: each
        for each in rendered["own"]
        if each["kind"] in {"StatefulSet", "Deployment"}
    }
    pods.play()
    until("a learner that is ready", lambda: ready(pods, LEARNER))
    assert workloads["sampler"]["spec"]["replicas"] == 2
    until("two samplers", lambda: len(pods.samplers()) == 2)
    samplers = pods.samplers()
    for name in samplers:
        until("a sampler that is ready", lambda name=name: ready(pods, name))
    # Over TLS, with tokens of the Secrets; names are the pods' own (`fieldRef`).
    wanted = ({"sampler-pod-0", "sampler-pod-1"}, 60_000)
    until("both samplers on watch", lambda: on_watch(pods) == wanted)

    # A pod is started again when its run is over, and begins another one. On a quick machine that
    # may be any moment: what fails because of it is looked at again.
    look(pods, LEARNER, lambda: assert_as_said(pods, LEARNER, workloads["learner"]))
    for name in samplers:
        look(pods, name, lambda name=name: assert_as_said(pods, name, workloads["sampler"]))
    assert pods.inspected(LEARNER)["Config"]["StopTimeout"] == 10

    results = []
    until("the end of the run", lambda: results.append(results_of(pods)) or results[-1])
    found, _ = json.JSONDecoder().raw_decode(results[-1])
    assert found["status"] == "finished"
    print(f"final return in pods: {found['final_evaluation']['return_mean']}")
    assert found["final_evaluation"]["return_mean"] > 150


def on_watch(pods):
    """The samplers' names and the budget; None where the learner is just started again."""
    try:
        seen = pods.watch()
    except AssertionError:
        return None
    return {each["name"] for each in seen["samplers"]}, seen["total_steps"]


def results_of(pods):
    """The results of runs that are over, one after the other; empty while there are none."""
    try:
        return pods.inside(LEARNER, "sh", "-c", "cat /runs/*/*/*/result.json || true").strip()
    except AssertionError:
        return ""


def look(pods, container, assert_all):
    """Asserts what must hold of a container that was not started again meanwhile."""
    while True:
        began = pods.inspected(container)["State"]["StartedAt"]
        try:
            return assert_all()
        except AssertionError:
            until("a container that runs", lambda: container in pods.running())
            if pods.inspected(container)["State"]["StartedAt"] == began:
                raise


def ready(pods, container):
    """What the readiness probe would find; a container that is started again is not there."""
    try:
        pods.inside(container, "python", "-I", "-m", "common.probe", "readyz")
    except AssertionError:
        return False
    return True


def assert_as_said(pods, name, workload):
    """A container is what its manifest says, as podman and the kernel see it."""
    pod = pod_of(workload)
    (container,) = pod["containers"]
    told = pods.inspected(name)
    assert told["ImageName"] == f"localhost/{container['image']}:latest"
    assert told["Args"][-1:] == container.get("args", told["Args"][-1:])
    resources = container["resources"]
    assert told["HostConfig"]["Memory"] == mebibytes(resources["limits"]["memory"])
    assert told["HostConfig"]["MemoryReservation"] == mebibytes(resources["requests"]["memory"])
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert labels.items() <= told["Config"]["Labels"].items()

    status = pods.inside(name, "cat", "/proc/1/status").splitlines()
    status = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    context = pod["securityContext"]
    assert status["Uid"].split() == [str(context["runAsUser"])] * 4
    assert status["Gid"].split() == [str(context["runAsGroup"])] * 4
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert {status[each] for each in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    mounts = {
        line.split()[4]: line.split()[5]
        for line in pods.inside(name, "cat", "/proc/self/mountinfo").splitlines()
    }
    assert "ro" in mounts["/"].split(",")
    for mount in container["volumeMounts"]:
        wanted = "ro" if mount.get("readOnly") else "rw"
        assert wanted in mounts[mount["mountPath"]].split(","), mount
    environment = dict(each.partition("=")[::2] for each in told["Config"]["Env"])
    for each in container["env"]:
        if "value" in each:
            assert environment[each["name"]] == each["value"]
    if "envFrom" in container:
        assert environment["WISERL_TOTAL_STEPS"] == "60000"


def mebibytes(text):
    """`300Mi` or `2Gi` in bytes."""
    return int(text[:-2]) << {"Mi": 20, "Gi": 30}[text[-2:]]
