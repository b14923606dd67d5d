"""A whole sampler for CartPole over the generated stubs alone: `minimal_sampler.py HOST:PORT`."""

import sys

import grpc
import gymnasium
import numpy as np
import onnxruntime
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from protos.wiserl.v1 import learner_pb2, learner_pb2_grpc
from protos.wiserl.v1.signature_pb2 import Role

CALLS = """{"methodConfig": [{"name": [{}], "timeout": "60s", "waitForReady": true, "retryPolicy":
  {"maxAttempts": 5, "initialBackoff": "1s", "maxBackoff": "9s", "backoffMultiplier": 2,
   "retryableStatusCodes": ["UNAVAILABLE"]}}]}"""


def play(env, seen, version, action, rows=500):
    """Rows: columns by role, records by key; OBSERVATION is the one that follows the row."""
    request = learner_pb2.PullWeightsRequest(**me, version=version, progress=pull.progress)
    session = onnxruntime.InferenceSession(learner.PullWeights(request).model)  # Renews the lease.
    for noise in np.float32((rng.integers(2**23, size=(rows, 1, 2)) + 0.5) / 2**23):
        given = {"OBSERVATION": seen, "NOISE": noise}
        feeds = {spec.name: given[Role.Name(spec.role)[5:]] for spec in hello.signature.inputs}
        row = dict(zip(names.values(), session.run(list(names), feeds), strict=True))
        # Gymnasium resets the environment in the row after an end, which is no step.
        row |= {"IS_FIRST": env.episode_lengths == 0, "VALID": ~env.prev_dones}
        seen, reward, row["TERMINATED"], row["TRUNCATED"], _ = env.step(row[action])
        row |= {"OBSERVATION": seen, "REWARD": np.float32(reward), "EPISODE_END": env.prev_dones}
        total = {"episode_return": env.episode_returns[0], "length": env.episode_lengths[0]}
        pull.progress.rows_rolled += 1
        yield row | {"episode": total | {"terminated": row["TERMINATED"][0]}}


options = [("grpc.service_config", CALLS), ("grpc.max_receive_message_length", 64 << 20)]
learner = learner_pb2_grpc.LearnerServiceStub(grpc.insecure_channel(sys.argv[1], options))
run = learner.GetRun(learner_pb2.GetRunRequest())
me = {"run_id": run.run_id, "sampler_id": np.random.default_rng().bytes(16).hex()}
env = RecordEpisodeStatistics(gymnasium.make_vec(run.training_environment.id, 1, "sync"))
judge = RecordEpisodeStatistics(gymnasium.make_vec(run.evaluation_environment.id, 1, "sync"))
low = {"dtype": "DATA_TYPE_FLOAT32", "shape": [4], "data": env.observation_space.low.tobytes()}
box = {"low": low, "high": low | {"data": env.observation_space.high.tobytes()}}
group = {"agents": [""], "observation": {"box": box}, "action": {"discrete": {"n": 2}}}
about = {"slots": 1, "max_slots_per_push": 1, "spec": {"groups": [group], "max_episode_steps": 500}}
hello = learner.Register(learner_pb2.RegisterRequest(**me, **about, protocol_version=1))
names = {spec.name: spec.key or Role.Name(spec.role)[5:] for spec in hello.signature.outputs}
rng = np.random.default_rng([hello.seed, hello.index])
now, _ = env.reset(seed=hello.seed + hello.index)
first, life, sequence, news = 0, hello.incarnation_base, 0, learner_pb2.PullWeightsResponse()
pull = learner_pb2.PullWeightsRequest(**me, wait_milliseconds=2_000)
while not any(grant.HasField("finish") for grant in news.grants):
    pull.have_version, pull.have_grants_revision = news.version, news.grants_revision
    known, news = news.grants, learner.PullWeights(pull)
    for grant in (grant for grant in news.grants if grant not in known):
        ours = me | {"grant_id": grant.grant_id}
        for _ in range(grant.collect.finite.fragments):
            rows = list(play(env, now, grant.collect.version, "ACTION", grant.collect.rows))
            sequence += 1
            push = learner_pb2.PushTrajectoriesRequest(**ours, sequence=sequence)
            push.batch.version, push.batch.rows = grant.collect.version, grant.collect.rows
            push.batch.slots.add(incarnation=life, first_row=first)
            for i in np.flatnonzero([row["EPISODE_END"] for row in rows]):
                push.batch.episodes.add(**rows[i]["episode"], end_row=first + i, incarnation=life)
            for spec in hello.signature.columns:
                key = spec.key or Role.Name(spec.role)[5:]
                column = np.stack([row[key] for row in [{"OBSERVATION": now}, *rows] if key in row])
                tensor = {"dtype": spec.dtype, "shape": column.shape, "data": column.tobytes()}
                push.batch.columns.add(role=spec.role, key=spec.key, tensor=tensor)
            learner.PushTrajectories(push)
            now, first = rows[-1]["OBSERVATION"], first + grant.collect.rows
        for seed in grant.evaluate.seeds:
            rows = play(judge, judge.reset(seed=seed)[0], grant.evaluate.version, "GREEDY_ACTION")
            episode = next(row["episode"] for row in rows if row["EPISODE_END"])
            report = learner_pb2.ReportEpisodesRequest(**ours, version=grant.evaluate.version)
            report.evaluation_id = grant.evaluate.evaluation_id
            report.episodes.add(seed=seed, episode=episode)
            learner.ReportEpisodes(report)
print(news.grants[0].finish.reason)
