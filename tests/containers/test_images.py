"""What the images are: small enough, without what they must not have, for nobody but uid 10001."""

import json

import pytest

MEGABYTE = 10**6


def inside(engine, image, *command):
    output = engine.containers.run(
        image,
        entrypoint=list(command),
        remove=True,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="none",
        tmpfs={"/tmp": "size=64m"},
    )
    return output.decode()


def test_sizes(engine, learner_image, sampler_image):
    """The learner's is that of torch for CPU; that of a sampler is pulled by many machines."""
    sizes = {
        name: engine.images.get(name).attrs["Size"] / MEGABYTE
        for name in (sampler_image, learner_image)
    }
    print(f"sizes in MB: {sizes}")
    assert sizes[sampler_image] < 400
    assert sizes[learner_image] < 1500


@pytest.mark.parametrize("kind", ["learner_image", "sampler_image"])
def test_how_an_image_is_run(kind, engine, request):
    image = engine.images.get(request.getfixturevalue(kind))
    config = image.attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert isinstance(config["Entrypoint"], list)
    assert config["Entrypoint"][0] != "/bin/sh"
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["Labels"]) >= {"org.opencontainers.image.title"}
    # No tool to bring anything in with; nothing that only root could change belongs to us.
    assert inside(engine, image, "python", "-c", "import os; print(os.getuid())") == "10001\n"
    look = "import importlib.util as u; print(u.find_spec('pip'))"
    assert inside(engine, image, "python", "-c", look) == "None\n"


def test_a_sampler_has_no_torch(engine, sampler_image):
    look = (
        "import importlib.util as u, json; "
        "print(json.dumps({n: u.find_spec(n) is not None for n in "
        "('torch', 'onnx', 'mpe2', 'gymnasium', 'onnxruntime')}))"
    )
    assert json.loads(inside(engine, sampler_image, "python", "-c", look)) == {
        "torch": False,
        "onnx": False,
        "mpe2": True,
        "gymnasium": True,
        "onnxruntime": True,
    }
    several = "from mpe2 import simple_spread_v3 as s; print(s.parallel_env().max_num_agents)"
    assert inside(engine, sampler_image, "python", "-c", several).splitlines()[-1] == "3"
