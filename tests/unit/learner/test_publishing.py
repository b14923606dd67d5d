"""Export, proof, patching and cache: what a broken policy is told, and what a sound one costs."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest
import torch
from learner_support import discrete_spec, ppo
from torch import nn

from common import spaces
from common.signature import GraphInput, GraphOutput, Noise, Role
from learner.algorithms.behaviour import BehaviourPolicy
from learner.publishing import cache as graphs
from learner.publishing import exporting, sessions
from learner.publishing import publisher as publishing
from learner.publishing.examples import example_inputs
from learner.publishing.exporting import ExportError, export
from learner.publishing.proof import ProofError, _Proof, prove
from learner.publishing.publisher import DivergedError, Publisher
from learner.publishing.template import Template, TemplateError

FLOAT = np.dtype(np.float32)


class Policy(BehaviourPolicy):
    """Four numbers and noise to two; subclasses say how."""

    def __init__(self):
        super().__init__(
            inputs=(
                GraphInput("observation", Role.OBSERVATION, FLOAT, (4,)),
                GraphInput("noise", Role.NOISE, FLOAT, (2,), noise=Noise.OPEN_UNIFORM),
            ),
            outputs=(GraphOutput("action", Role.ACTION, FLOAT, (2,)),),
        )
        self.layer = nn.Linear(4, 2)

    def forward(self, *inputs):
        observation, noise = inputs
        return (self.answer(observation) + noise,)

    def answer(self, observation):
        return self.layer(observation)


@functools.cache
def plain() -> bytes:
    """The graph of `Policy`, exported once."""
    return export(Policy())


def proved(policy: BehaviourPolicy) -> Template:
    template = Template(export(policy))
    prove(template, policy)
    return template


def answers_of(policy: BehaviourPolicy, model: bytes, environments: int = 5):
    """The outputs of both for the same inputs: of torch, of ONNX Runtime."""
    inputs = example_inputs(policy, np.random.default_rng(7), environments)
    with torch.no_grad():
        (expected,) = policy(*(torch.from_numpy(array) for array in inputs.values()))
    found = sessions.run(sessions.session_of(model), ["action"], inputs)["action"]
    return expected.numpy(), found


def test_a_publication_is_the_policy_as_it_is_now(graph_cache):
    policy = Policy()
    publisher = Publisher(policy, cache=graph_cache)
    first = publisher.publish(1)
    np.testing.assert_allclose(*answers_of(policy, first.model), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        policy.layer.weight.mul_(3.0)
    second = publisher.publish(2)
    np.testing.assert_allclose(*answers_of(policy, second.model), rtol=1e-5, atol=1e-6)
    assert (first.version, second.version) == (1, 2)
    assert first.model != second.model
    assert second.sha256 == hashlib.sha256(second.model).digest()
    assert publisher.publish(3).sha256 == second.sha256


def test_a_model_keeps_names_and_tells_nothing_of_the_machine(graph_cache):
    policy = Policy()
    model = onnx.load_from_string(Publisher(policy, cache=graph_cache).publish(1).model)
    onnx.checker.check_model(model, full_check=True)
    assert {tensor.name for tensor in model.graph.initializer} == policy.state_dict().keys()
    assert [value.name for value in model.graph.input] == ["observation", "noise"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "environments"
    assert model.ir_version == 10
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert b"test_publishing" not in model.SerializeToString()
    assert b"File" not in model.SerializeToString()


def test_the_proof_leaves_the_policy_as_it_was():
    policy = Policy()
    before = {name: tensor.clone() for name, tensor in policy.named_tensors().items()}
    prove(Template(plain()), policy)
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.named_tensors().items())


def test_a_tensor_that_is_written_as_another_is_found():
    class Swapped(Policy):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(4, 2)

        def answer(self, observation):
            return self.layer(observation) - 2.0 * self.other(observation)

    policy = Swapped()
    template = Template(export(policy))
    slots = template.slots
    slots["layer.weight"], slots["other.weight"] = slots["other.weight"], slots["layer.weight"]
    with pytest.raises(ProofError, match="differ for 1 environments"):
        prove(template, policy)


class Baked(Policy):
    """Uses a number while it is exported, the tensor that it was made from afterwards."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(2.0))

    def answer(self, observation):
        scale = 2.0 if torch.compiler.is_exporting() else self.scale
        return self.layer(observation) * scale


def test_a_tensor_baked_in_is_found():
    policy = Baked()
    template = Template(export(policy))
    assert "scale" not in template.slots
    with pytest.raises(ProofError, match="differ for 1 environments"):
        prove(template, policy)


def test_a_tensor_that_matters_and_is_absent_is_named():
    policy = Baked()
    proof = _Proof(Template(plain()), policy)
    with pytest.raises(ProofError, match=r"scale matters .* baked in as a constant"):
        proof._prove_absent(["scale"])
    with pytest.raises(ProofError, match=r"writing layer\.bias into the exported graph"):
        proof._prove_present(["layer.bias"])


def test_a_buffer_that_does_not_matter_may_be_absent():
    class Spare(Policy):
        def __init__(self):
            super().__init__()
            self.register_buffer("spare", torch.tensor(2.0))

    prove(Template(plain()), Spare())


def test_tied_tensors_are_one_under_both_names():
    class Tied(Policy):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.twin = nn.Linear(4, 4)
            self.twin.weight = self.inner.weight

        def answer(self, observation):
            return self.layer(self.twin(torch.tanh(self.inner(observation))))

    policy = Tied()
    template = proved(policy)
    with torch.no_grad():
        policy.inner.weight.mul_(-2.0)
    found = answers_of(policy, template.fill(policy.named_tensors()))
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)


def test_equal_tensors_are_not_merged():
    class Equal(Policy):
        def __init__(self):
            super().__init__()
            self.twin = nn.Linear(4, 2)
            self.twin.load_state_dict(self.layer.state_dict())

        def answer(self, observation):
            return self.layer(observation) * torch.sigmoid(self.twin(observation))

    policy = Equal()
    template = proved(policy)
    model = onnx.load_from_string(template.fill(policy.named_tensors()))
    # As a graph optimiser would: the twin's users take the first one's weight.
    for node in model.graph.node:
        node.input[:] = [name.replace("twin.weight", "layer.weight") for name in node.input]
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "twin.weight"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    with pytest.raises(ProofError):
        prove(Template(model.SerializeToString()), policy)


def refused(answer) -> str:
    """What the export of a policy with this `answer` is refused with."""
    policy = Policy()
    policy.answer = lambda observation: answer(policy, observation)
    with pytest.raises((ExportError, ProofError)) as caught:
        proved(policy)
    return str(caught.value)


def test_random_operators_are_refused():
    text = refused(lambda policy, x: policy.layer(x) + torch.randn_like(x[:, :2]))
    assert "draws random numbers (RandomNormalLike" in text
    assert "Take a noise input" in text


def test_dropout_that_is_always_on_is_refused():
    text = refused(lambda policy, x: nn.functional.dropout(policy.layer(x), 0.5, training=True))
    assert "draws random numbers (Dropout" in text


def test_a_data_dependent_branch_is_refused_with_cause_and_remedy():
    def answer(policy, x):
        return policy.layer(x) if x.sum() > 0 else -policy.layer(x)

    text = refused(answer)
    assert "branches on the value of a tensor" in text
    assert "if x.sum() > 0" in text
    assert "torch.where" in text
    assert ".py" not in text


def test_an_operator_without_a_counterpart_is_refused_by_name():
    text = refused(lambda policy, x: torch.special.bessel_j0(policy.layer(x)))
    assert "bessel_j0" in text
    assert "no counterpart in ONNX" in text


def test_a_fixed_number_of_environments_is_refused():
    text = refused(lambda policy, x: policy.layer(x.reshape(3, 4)))
    assert "environments" in text


def test_a_tensor_that_is_given_back_as_it_came_is_refused():
    policy = Policy()
    policy.forward = lambda observation, noise: (noise,)
    with pytest.raises(ExportError, match=r"return a `\.clone\(\)`"):
        export(policy)


def test_outputs_must_be_as_the_signature_says():
    policy = Policy()
    policy.forward = lambda observation, noise: (observation + 1.0,)
    with pytest.raises(ExportError, match=r"gives action as .*\(3, 4\).*says .*\(3, 2\)"):
        export(policy)
    policy.forward = lambda observation, noise: observation + 1.0
    with pytest.raises(ExportError, match="must return a tuple of its 1 outputs"):
        export(policy)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_policy_that_diverged_is_not_published(value, graph_cache):
    policy = Policy()
    publisher = Publisher(policy, cache=graph_cache)
    publisher.publish(1)
    with torch.no_grad():
        policy.layer.bias[1] = value
    with pytest.raises(DivergedError, match=r"layer\.bias of the policy is NaN .* lower the learn"):
        publisher.publish(2)


def test_parameters_of_half_precision_have_not_diverged_where_their_sum_is_large(graph_cache):
    policy = Policy()
    publisher = Publisher(policy, cache=graph_cache)
    policy.layer.weight.data = torch.full((2, 4), 4e4, dtype=torch.float16)
    publisher._check_finite()


def test_a_policy_that_changed_its_shape_is_not_published():
    with pytest.raises(TemplateError, match=r"layer\.bias is .* \(3,\), but was exported as"):
        Template(plain()).fill({"layer.bias": torch.zeros(3)})


@pytest.mark.parametrize("content", [b"", b"\x3a\xff", b"not a model", b"\x3a\x05\x2a\x03\x42\x01"])
def test_bytes_that_are_no_model_are_refused_or_empty(content):
    try:
        assert Template(content).slots == {}
    except TemplateError as error:
        assert "not an ONNX model" in str(error) or "data type" in str(error)


def exports(monkeypatch) -> list[str]:
    """Counts the exports from now on; each gives what the first one gave."""
    found: list[str] = []

    def counted(behaviour):
        found.append(type(behaviour).__name__)
        return plain()

    monkeypatch.setattr(exporting, "export", counted)
    return found


def test_a_graph_is_exported_once_and_proved_every_time(tmp_path, monkeypatch):
    found = exports(monkeypatch)
    proofs = []
    monkeypatch.setattr(publishing, "prove", lambda *given: proofs.append(prove(*given)))
    for _ in range(3):
        Publisher(Policy(), cache=tmp_path / "graphs")
    assert (len(found), len(proofs)) == (1, 3)
    assert len(list((tmp_path / "graphs").iterdir())) == 1


def test_a_spoilt_graph_is_exported_again(tmp_path, monkeypatch):
    found = exports(monkeypatch)
    Publisher(Policy(), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    for bad in (good[: len(good) // 2], b"", good.replace(b"Gemm", b"Gemn")):
        file.write_bytes(bad)
        Publisher(Policy(), cache=tmp_path)
        assert file.read_bytes() == good
    assert len(found) == 4


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    exports(monkeypatch)
    (tmp_path / "file").write_text("")
    Publisher(Policy(), cache=tmp_path / "file" / "graphs").publish(1)


def test_what_a_graph_depends_on_is_in_its_name():
    class Doubled(Policy):
        pass

    class Wide(Policy):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2, bias=False)

    class Constant(Policy):
        def __init__(self, number):
            super().__init__()
            self.register_buffer("constant", torch.tensor(number), persistent=False)

    trained, structured = Policy(), Policy()
    with torch.no_grad():
        trained.layer.weight.add_(1.0)
    structured.structure = "another space"
    same = {graphs.fingerprint(policy) for policy in (Policy(), trained)}
    others = [Wide(), Constant(1.0), Constant(2.0), structured, Doubled()]
    assert len(same) == 1
    assert len(same | {graphs.fingerprint(policy) for policy in others}) == 6


def test_a_setting_of_the_training_alone_does_not_cost_an_export():
    one, other = ppo(discrete_spec()), ppo(discrete_spec(), learning_rate=1.0, seed=4)
    assert graphs.fingerprint(one.behaviour) == graphs.fingerprint(other.behaviour)


def test_with_a_warm_cache_no_exporter_is_imported(tmp_path):
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from learner_support import discrete_spec, ppo
        from learner.publishing.publisher import Publisher

        Publisher(ppo(discrete_spec()).behaviour, cache=Path(sys.argv[1])).publish(1)
        names = ("onnx", "onnxscript", "torch.onnx")
        print(sorted(name for name in names if name in sys.modules))
        """
    )
    folder = str(tmp_path)
    answers = [
        subprocess.run(
            [sys.executable, "-c", program, folder],
            check=True,
            capture_output=True,
            text=True,
            cwd="tests",
        ).stdout.strip()
        for _ in range(2)
    ]
    assert answers == ["['onnx', 'onnxscript', 'torch.onnx']", "[]"]


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.uint8, np.int8, np.bool_, np.float64])
def test_examples_are_of_the_space_and_small(dtype):
    policy = Policy()
    low, high = {"f": (1e6, np.inf), "b": (False, True)}.get(np.dtype(dtype).kind, (None, None))
    if low is None:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    policy.leaves["observation"] = spaces.Box(np.full(4, low, dtype), np.full(4, high, dtype))
    drawn = example_inputs(policy, np.random.default_rng(0), 100)["observation"]
    assert drawn.dtype == np.float32
    assert np.abs(drawn).max() <= 255
    assert len(np.unique(drawn)) >= {"f": 1, "b": 2}.get(np.dtype(dtype).kind, 50)
