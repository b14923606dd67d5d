"""Workloads of Kubernetes under podman 4.3: what it is given in place of what it cannot play."""

from __future__ import annotations

import base64
import copy
import json
import os
import resource
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

Document = dict[str, Any]

LEARNER = "learner-learner"
"""The container `learner` of the pod `learner`."""


def pod_of(document: Document) -> Document:
    """The pod's spec of a workload."""
    found: Document = document["spec"]["template"]["spec"]
    return found


def playable(documents: list[Document]) -> list[Document]:
    """The documents that podman 4.3 plays, changed where it would not do as Kubernetes does.

    - The StatefulSet's only pod and its claim stand for themselves, since podman knows no
      StatefulSet. The pod is called like the Service, by whose name it is found then.
    - The containers' ports are left out: podman publishes them on this machine, where they collide.
    - Secrets are left to `secrets`; that a volume's is not optional has to be said (podman #16636).
    """
    found: list[Document] = []
    for original in documents:
        document = copy.deepcopy(original)
        kind = document["kind"]
        if kind in {"StatefulSet", "Deployment"}:
            for container in pod_of(document)["containers"]:
                del container["ports"]
            for volume in pod_of(document)["volumes"]:
                if "secret" in volume:
                    volume["secret"]["optional"] = False
        if kind == "StatefulSet":
            found += _first_pod(document)
        elif kind in {"ConfigMap", "Deployment"}:
            found.append(document)
    return found


def _first_pod(document: Document) -> list[Document]:
    name, template = document["metadata"]["name"], document["spec"]["template"]
    claims = []
    for claim in document["spec"]["volumeClaimTemplates"]:
        own = f"{claim['metadata']['name']}-{name}-0"
        claims.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": own},
                "spec": claim["spec"],
            }
        )
        template["spec"]["volumes"].append(
            {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": own}}
        )
    metadata = {"name": name, "labels": template["metadata"]["labels"]}
    return [*claims, {"apiVersion": "v1", "kind": "Pod"} | template | {"metadata": metadata}]


def secrets(documents: list[Document]) -> dict[str, str]:
    """What podman 4.3 must hold for each Secret so that a volume of it has the right files.

    It puts into the files what stands there under `data`, and forgets to decode it.
    """
    return {
        each["metadata"]["name"]: yaml.safe_dump(
            {"data": {key: base64.b64decode(text).decode() for key, text in each["data"].items()}}
        )
        for each in documents
        if each["kind"] == "Secret"
    }


class Podman:
    """Plays documents; everything of them goes with `remove`."""

    def __init__(self, folder: Path, documents: list[Document], name: str) -> None:
        self.name = name
        self._documents = playable(documents)
        self._secrets = secrets(documents)
        self._file = folder / "play.yaml"
        self._file.write_text(yaml.safe_dump_all(self._documents))
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        configuration = folder / "containers.conf"
        # For machines with cgroups of version 1, without systemd, and with lowered limits.
        configuration.write_text(
            f'[containers]\ndefault_ulimits = ["nofile={most}:{most}", "nproc=8192:8192"]\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        self._environment = os.environ | {"CONTAINERS_CONF": str(configuration)}

    def run(self, *arguments: str, check: bool = True, text: str | None = None) -> str:
        """A podman command; answers what it printed."""
        done = subprocess.run(
            ["podman", *arguments],
            env=self._environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr[-5000:]}"
        return done.stdout

    def load(self, image: str) -> None:
        """Brings an image from the Docker engine, once for each that was built."""
        inspected = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
        found = subprocess.run(inspected, capture_output=True, text=True, check=True).stdout
        mark = f"localhost/{image}:from-{found.strip().removeprefix('sha256:')[:12]}"
        if not self.run("images", "--quiet", mark):
            with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
                load = ["podman", "load", "--quiet"]
                subprocess.run(load, stdin=saving.stdout, env=self._environment, check=True)
            self.run("tag", f"localhost/{image}:latest", mark)
        # Where the manifest's short name leads.
        self.run("tag", mark, f"localhost/{image}:latest")

    def play(self) -> None:
        """Starts the pods on a network of their own, where they find each other by name."""
        self.run("network", "create", self.name)
        for name, content in self._secrets.items():
            self.run("secret", "create", name, "-", text=content)
        self.run("kube", "play", "--network", self.name, str(self._file))

    def inside(self, container: str, *command: str) -> str:
        """What a command within a container prints."""
        return self.run("exec", container, *command)

    def inspected(self, container: str) -> Document:
        """What podman says of a container."""
        (found,) = json.loads(self.run("inspect", container))
        return dict(found)

    def running(self) -> list[str]:
        """The containers that run."""
        return self.run("ps", "--format", "{{.Names}}").split()

    def samplers(self) -> list[str]:
        """Those of them that are samplers."""
        return sorted(name for name in self.running() if name.endswith("-sampler"))

    def watch(self) -> Document:
        """What `wiserl watch` says, asked over TLS with the viewer's token."""
        told = self.inside(LEARNER, "wiserl", "watch", "--once", "--json")
        return dict(json.loads(told))

    def logs(self) -> str:
        """What all containers wrote, as far as there are any."""
        names = self.run("ps", "--all", "--format", "{{.Names}}", check=False).split()
        return "\n".join(self.run("logs", "--tail", "40", name, check=False) for name in names)

    def remove(self) -> None:
        """Pods, volumes, secrets and the network."""
        for document in self._documents:
            name = document["metadata"]["name"]
            pods = [name]
            if document["kind"] == "Deployment":
                pods = [f"{name}-pod-{i}" for i in range(document["spec"]["replicas"])]
            if document["kind"] in {"Pod", "Deployment"}:
                for pod in pods:
                    self.run("pod", "rm", "--force", pod, check=False)
        for name in self.run("volume", "ls", "--quiet", "--filter", "dangling=true").split():
            if name in {"tmp", "shm", "runs-learner-0", *self._secrets}:
                self.run("volume", "rm", name, check=False)
        for name in self._secrets:
            self.run("secret", "rm", name, check=False)
        self.run("network", "rm", "--force", self.name, check=False)
