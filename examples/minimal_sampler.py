"""A whole sampler over the generated stubs alone: `python examples/minimal_sampler.py HOST:PORT`.

It knows one agent, Box observations, Discrete actions, policies without memory and the finite
grants of PPO, and pulls between fragments rather than beside them: each must end within the lease.
"""

import hashlib
import random
import sys
import time
import uuid

import grpc
import gymnasium
import numpy as np
import onnxruntime

from protos.wiserl.v1 import learner_pb2, learner_pb2_grpc, signature_pb2, tensor_pb2

SLOTS = 8


def call(method, request):
    """Repeats a call until there is an answer; a status that will not pass ends the program."""
    while True:
        try:
            return method(request, timeout=60.0)
        except grpc.RpcError as error:
            if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise
            time.sleep(random.uniform(0.1, 1.0))


def encode(array):
    """The message of an array."""
    dtype = tensor_pb2.DataType.Value(f"DATA_TYPE_{array.dtype.name.upper()}")
    return tensor_pb2.Tensor(dtype=dtype, shape=array.shape, data=array.tobytes())


def cast(array, dtype):
    """The array in a dtype of the contract."""
    return np.asarray(array, tensor_pb2.DataType.Name(dtype).removeprefix("DATA_TYPE_").lower())


def address(spec):
    """Role and key, such as `OBSERVATION` or `RECORD/log_prob`."""
    role = signature_pb2.Role.Name(spec.role).removeprefix("ROLE_")
    return f"{role}/{spec.key}" if spec.key else role


def load(model):
    """A session that leaves the other cores alone."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options)


def act(session, observations):
    """What the graph answers for a batch of environments."""
    feeds = {}
    for spec in hello.signature.inputs:
        draws = noise.integers(2**23, size=(len(observations), *spec.shape))
        given = {"OBSERVATION": observations, "NOISE": (draws + 0.5) * 2.0**-23}
        feeds[spec.name] = cast(given[address(spec).split("/")[0]], spec.dtype)
    answers = session.run([spec.name for spec in hello.signature.outputs], feeds)
    return dict(zip(map(address, hello.signature.outputs), answers, strict=True))


def roll(session, rows, slots):
    """The next rows of all environments; the batch has those of the first `slots`."""
    life = {"incarnation": hello.incarnation_base}
    parts = [{"slot": slot, "first_row": now["row"], **life} for slot in range(slots)]
    history, episodes = [], []
    for _ in range(rows):
        step = now | act(session, now["OBSERVATION"])
        following, reward, terminated, truncated, info = envs.step(step["ACTION"])
        step |= {"REWARD": reward, "TERMINATED": terminated, "TRUNCATED": truncated}
        step["EPISODE_END"] = ended = terminated | truncated
        history.append(step)
        for slot in np.flatnonzero(ended[:slots]):
            result = {"slot": slot, "end_row": now["row"], "terminated": terminated[slot]} | life
            total, length = (info["episode"][key][slot] for key in "rl")
            episodes.append(result | {"episode_return": total, "length": length})
        # Gymnasium resets an environment in the row after an end, which then is no step.
        now.update(OBSERVATION=following, IS_FIRST=~now["VALID"], VALID=~ended, row=now["row"] + 1)
    columns = []
    for spec in hello.signature.columns:
        steps = [*history, now] if spec.extent == signature_pb2.EXTENT_ROWS_PLUS_ONE else history
        column = cast([step[address(spec)][:slots] for step in steps], spec.dtype)
        columns.append({"role": spec.role, "key": spec.key, "tensor": encode(column)})
    return {"rows": rows, "slots": parts, "columns": columns, "episodes": episodes}


def play(session, seed):
    """One episode of the greedy policy."""
    observation, _ = judge.reset(seed=seed)
    rewards, terminated, truncated = [], False, False
    while not (terminated or truncated):
        greedy = act(session, observation[None])["GREEDY_ACTION"][0]
        observation, reward, terminated, truncated, _ = judge.step(greedy)
        rewards.append(reward)
    return {"episode_return": sum(rewards), "length": len(rewards), "terminated": terminated}


def pull(**fields):
    """News of policies and grants; tells the learner that work goes on."""
    progress = {"rows_rolled": now["row"] * SLOTS + len(played)}
    request = learner_pb2.PullWeightsRequest(**me, progress=progress, **fields)
    return call(learner.PullWeights, request)


def collect(grant):
    """Rolls and pushes one fragment of each slot; tells whether there was one to roll."""
    done, amount = pushed.get(grant.grant_id, 0), grant.collect.finite
    if done == amount.fragments or grant.collect.version != news.version:
        return False
    slots = min(amount.slots, amount.fragments - done)
    batch = roll(session, grant.collect.rows, slots) | {"version": news.version}
    now["sequence"] += 1
    work = {"grant_id": grant.grant_id, "sequence": now["sequence"], "batch": batch}
    call(learner.PushTrajectories, learner_pb2.PushTrajectoriesRequest(**me, **work))
    pushed[grant.grant_id] = done + slots
    return True


def evaluate(grant):
    """Plays and reports one seed; tells whether there was one to play."""
    work = grant.evaluate
    seed = next((seed for seed in work.seeds if (work.evaluation_id, seed) not in played), None)
    if seed is None:
        return False
    current = work.version == news.version
    episode = play(session if current else load(pull(version=work.version).model), seed)
    about = {
        "grant_id": grant.grant_id,
        "evaluation_id": work.evaluation_id,
        "version": work.version,
    }
    report = learner_pb2.ReportEpisodesRequest(
        **me, **about, episodes=[{"seed": seed, "episode": episode}]
    )
    call(learner.ReportEpisodes, report)
    played.add((work.evaluation_id, seed))
    return True


channel = grpc.insecure_channel(sys.argv[1], [("grpc.max_receive_message_length", 64 << 20)])
learner = learner_pb2_grpc.LearnerServiceStub(channel)
run = call(learner.GetRun, learner_pb2.GetRunRequest())
me = {"run_id": run.run_id, "sampler_id": uuid.uuid4().hex}

envs = gymnasium.make_vec(run.training_environment.id, SLOTS, vectorization_mode="sync")
envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs)
judge = gymnasium.make(run.evaluation_environment.id)
seen, chosen = envs.single_observation_space, envs.single_action_space
group = {
    "agents": [""],
    "observation": {"box": {"low": encode(seen.low), "high": encode(seen.high)}},
    "action": {"discrete": {"n": chosen.n, "start": chosen.start}},
}
about = {"name": "minimal", "protocol_version": 1, "slots": SLOTS, "max_slots_per_push": SLOTS}
about["spec"] = {"groups": [group], "max_episode_steps": envs.spec.max_episode_steps}
hello = call(learner.Register, learner_pb2.RegisterRequest(**me, **about))

noise = np.random.default_rng(hello.seed)
life = f"wiserl/{hello.seed}/{hello.index}/{{}}/{hello.incarnation_base}/environment"
digests = [hashlib.sha256(life.format(slot).encode()).digest() for slot in range(SLOTS)]
seeds = [int.from_bytes(digest[:4], "little") & 0x7FFFFFFF for digest in digests]
now = {"row": 0, "sequence": hello.last_sequence, "OBSERVATION": envs.reset(seed=seeds)[0]}
now |= {"IS_FIRST": np.ones(SLOTS, bool), "VALID": np.ones(SLOTS, bool)}
pushed, played, wait = {}, set(), 0
news, session = learner_pb2.PullWeightsResponse(), None
while not any(grant.HasField("finish") for grant in news.grants):
    news = pull(
        have_version=news.version,
        have_model_sha256=news.model_sha256,
        have_grants_revision=news.grants_revision,
        wait_milliseconds=wait,
    )
    session = load(news.model) if news.HasField("model") else session
    worked = [collect(g) if g.HasField("collect") else evaluate(g) for g in news.grants]
    wait = 0 if any(worked) else run.limits.wait_milliseconds
print(news.grants[0].finish.reason)
