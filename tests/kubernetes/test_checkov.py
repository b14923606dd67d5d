"""The manifests as checkov sees them, which knows more ways to be careless than our own tests.

It pins so many packages that it lives in an environment of its own, made once inside the tests'
(290 MB, about a minute).
"""

import copy
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml
from processes import one_at_a_time

CHECKOV = "checkov==3.3.30"

OFFLINE = ("--skip-download", "--compact", "--quiet")

SKIPPED = {
    "CKV_K8S_11": "no limit of CPU: requests share it out, and what nobody wants may be had",
    "CKV_K8S_14": "no tag: images are the user's own, and `images:` in an overlay names them",
    "CKV_K8S_15": "images built on the node are pulled from nowhere",
    "CKV_K8S_43": "no digest: as for the tag",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def checkov():
    """Its program."""
    folder = Path(sys.prefix) / CHECKOV.replace("==", "-")
    done = folder / ".installed"
    with one_at_a_time("checkov"):
        if not done.exists():
            venv.create(folder, clear=True, with_pip=True)
            install = ["-m", "pip", "install", "--quiet", CHECKOV]
            subprocess.run([folder / "bin/python", *install], check=True, timeout=500)
            done.touch()
    return folder / "bin/checkov"


def failed(checkov, folder, documents):
    """The checks that fail in each file, of documents by the file's name."""
    for name, each in documents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(each))
    done = subprocess.run(
        [checkov, "-d", folder, *OFFLINE, "--framework", "kubernetes", "--output", "json"],
        env=os.environ | {"LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 10 * len(documents), done.stderr
    found = {name: set() for name in documents}
    for check in report["results"]["failed_checks"]:
        found[Path(check["file_path"]).stem].add(check["check_id"])
    return found


def test_nothing_is_careless_but_what_is_meant(checkov, rendered, tmp_path):
    kept = {
        name: [each for each in documents if each["kind"] != "Secret"]
        for name, documents in rendered.items()
    }
    found = failed(checkov, tmp_path, kept)
    assert set().union(*found.values()) == set(SKIPPED)


CARELESS = {
    "CKV_K8S_8": lambda pod, container: container.pop("livenessProbe"),
    "CKV_K8S_9": lambda pod, container: container.pop("readinessProbe"),
    "CKV_K8S_13": lambda pod, container: container["resources"]["limits"].pop("memory"),
    "CKV_K8S_16": lambda pod, container: container["securityContext"].update(privileged=True),
    "CKV_K8S_19": lambda pod, container: pod.update(hostNetwork=True),
    "CKV_K8S_20": lambda pod, container: container["securityContext"].update(
        allowPrivilegeEscalation=True
    ),
    "CKV_K8S_22": lambda pod, container: container["securityContext"].pop("readOnlyRootFilesystem"),
    "CKV_K8S_31": lambda pod, container: pod["securityContext"].pop("seccompProfile"),
    "CKV_K8S_37": lambda pod, container: container["securityContext"].pop("capabilities"),
    "CKV_K8S_38": lambda pod, container: pod.pop("automountServiceAccountToken"),
    "CKV_K8S_40": lambda pod, container: pod["securityContext"].update(runAsUser=1000),
}


def test_what_is_careless_is_noticed(checkov, rendered, tmp_path):
    """A field of the hardening is taken away or spoilt, one in each file."""
    (sound,) = [each for each in rendered["cpu"] if each["kind"] == "StatefulSet"]
    broken = {}
    for check, spoil in CARELESS.items():
        broken[check] = [copy.deepcopy(sound)]
        pod = broken[check][0]["spec"]["template"]["spec"]
        spoil(pod, pod["containers"][0])
    found = failed(checkov, tmp_path, broken)
    assert {check for check in CARELESS if check not in found[check]} == set()
