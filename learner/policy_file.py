"""A saved policy: `policy.onnx` and `policy.json`, enough to act with it and without torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from common import signature, specs
from common.errors import InvalidFieldError, WiseRLError
from learner import files
from protos.wiserl.v1 import environment_pb2, signature_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from common.signature import Signature
    from common.specs import EnvironmentSpec
    from learner.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class SavedPolicy:
    """A policy and how it is fed.

    Attributes:
        algorithm: What it was trained by.
        version: The version that it was published as.
        environment_steps: Steps that it was trained on.
        environment: Where it is to be evaluated.
        spec: The spaces it was built for.
        signature: Its graph's inputs and outputs.
        scalars: The exploration values at the time, one or one for each slot.
        model: The ONNX model.
    """

    algorithm: str
    version: int
    environment_steps: int
    environment: environment_pb2.EnvironmentReference
    spec: EnvironmentSpec
    signature: Signature
    scalars: Mapping[str, list[float]]
    model: bytes


def save(folder: RunFolder, policy: SavedPolicy) -> None:
    """Puts the policy into the folder.

    The description comes first, with what it changed under `former`: wherever this is cut off, the
    folder holds the former policy or the new one.

    Raises:
        OSError: No room, or an I/O error; the former policy stands.
    """
    description: dict[str, Any] = {
        "algorithm": policy.algorithm,
        "version": policy.version,
        "environment_steps": policy.environment_steps,
        "model_sha256": hashlib.sha256(policy.model).hexdigest(),
        "environment": json_format.MessageToDict(policy.environment),
        "spec": json_format.MessageToDict(specs.to_proto(policy.spec)),
        "signature": json_format.MessageToDict(signature.to_proto(policy.signature)),
        "scalars": dict(policy.scalars),
    }
    try:
        before, _ = _found(folder)
    except WiseRLError:
        before = {}
    former = {key: was for key, was in before.items() if was != description[key]}
    files.replace(folder.policy, files.json_bytes({**description, "former": former}))
    files.replace(folder.policy_model, policy.model)


def load(folder: RunFolder) -> SavedPolicy:
    """The policy in a folder.

    Raises:
        WiseRLError: There is none, or its two files do not belong together.
    """
    description, model = _found(folder)
    try:
        return _policy(description, model)
    except (KeyError, InvalidFieldError, json_format.ParseError) as error:
        raise WiseRLError(f"{folder.policy} does not describe a policy: {error}") from None


def _found(folder: RunFolder) -> tuple[dict[str, Any], bytes]:
    """The model in a folder and its description.

    Raises:
        WiseRLError: There is none, or its two files do not belong together.
    """
    try:
        description = json.loads(folder.policy.read_bytes())
        model = folder.policy_model.read_bytes()
    except FileNotFoundError:
        raise WiseRLError(
            f"{folder.path} holds no policy: {folder.policy_model.name} or {folder.policy.name} is "
            "missing; name the folder of a run that has saved one"
        ) from None
    except ValueError as error:
        raise WiseRLError(f"{folder.policy} does not parse: {error}") from None
    former = description.pop("former", {})
    sha256 = hashlib.sha256(model).hexdigest()
    for candidate in (description, {**description, **former}):
        if candidate.get("model_sha256") == sha256:
            return candidate, model
    raise WiseRLError(f"{folder.policy_model} is not the model that {folder.policy} describes")


def _policy(description: Mapping[str, Any], model: bytes) -> SavedPolicy:
    parse = json_format.ParseDict
    return SavedPolicy(
        description["algorithm"],
        description["version"],
        description["environment_steps"],
        parse(description["environment"], environment_pb2.EnvironmentReference()),
        specs.from_proto(parse(description["spec"], environment_pb2.EnvironmentSpec())),
        signature.from_proto(parse(description["signature"], signature_pb2.Signature())),
        description["scalars"],
        model,
    )
