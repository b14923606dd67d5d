import collections

from hypothesis import given
from hypothesis import strategies as st
from scenarios import SIGNATURE, RecordingPool

from common import signature
from common.statuses import Code
from protos.wiserl.v1 import grant_pb2, learner_pb2
from sampler.core import SamplerCore
from sampler.pool import RollTask, WorkerLost
from sampler.refusals import Refused


class World:
    """A core, a pool whose workers end or crash in any order, a learner that counts."""

    def __init__(self, workers, envs):
        self.pool = RecordingPool(workers, envs)
        self.core = SamplerCore(self.pool, name="test", sampler_id="sampler-1")
        self.core.register_request(learner_pb2.GetRunResponse(run_id="run-1"))
        self.core.on_registered(
            learner_pb2.RegisterResponse(signature=signature.to_proto(SIGNATURE))
        )
        self.now = 0.0
        self.accepted = collections.Counter()
        self.sequences = []

    def window(self, fragments):
        self._take(fragments, None)

    def grant(self, fragments, slots):
        self._take(fragments, slots)

    def _take(self, fragments, slots):
        response = learner_pb2.PullWeightsResponse(version=1, model=b"", grants_revision=1)
        response.model_sha256 = bytes.fromhex(
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        )
        grant = grant_pb2.Grant(grant_id=1)
        grant.collect.rows, grant.collect.version = 2, 1
        if slots is None:
            grant.collect.or_newer, grant.collect.window.fragments = True, fragments
        else:
            grant.collect.finite.fragments, grant.collect.finite.slots = fragments, slots
        response.grants.append(grant)
        self.core.on_pull(self.now, response)

    def outstanding(self):
        """The first task of every worker that has one: they end in order."""
        first = {}
        for task_id, (worker, task, _) in sorted(self.pool.tasks.items()):
            if isinstance(task, RollTask):
                first.setdefault(worker, task_id)
        return list(first.values())

    def roll(self, task_id):
        event = self.pool.roll(task_id)
        del self.pool.tasks[task_id]
        self.core.on_events(self.now, [event])

    def lose(self, task_id):
        worker = self.pool.tasks[task_id][0]
        lost = [i for i, (owner, _, _) in self.pool.tasks.items() if owner == worker]
        for i in lost:
            self.pool.end(i)
            del self.pool.tasks[i]
        self.core.on_events(self.now, [WorkerLost(worker, "crashed", 0, tuple(lost))])

    def answer(self, kind):
        request = self.core.next_push()
        slots = [part.slot for part in request.batch.slots]
        assert len(set(slots)) == len(slots)
        self.now += 100.0  # refusals far apart are never too many
        if kind == "accepted":
            self.accepted.update(slots)
            self.core.on_push_answer(
                self.now, learner_pb2.PushTrajectoriesResponse(verdict="VERDICT_ACCEPTED")
            )
        elif kind == "refused":
            self.core.on_push_answer(self.now, Refused(Code.INVALID_ARGUMENT, "no"))
        else:
            sent = kind == "too large for the learner"
            self.core.on_push_answer(self.now, Refused(Code.RESOURCE_EXHAUSTED, "no", sent=sent))
        if kind != "too large to send":
            self.sequences.append(request.sequence)


ANSWERS = ("accepted", "refused", "too large for the learner", "too large to send")


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 20), st.data())
def test_a_finite_grant_is_pushed_exactly_whatever_happens(workers, envs, fragments, data):
    world = World(workers, envs)
    slots = data.draw(st.integers(1, workers * envs), label="slots")
    world.grant(fragments, slots)
    mishaps = 12
    while world.outstanding() or world.core.next_push() is not None:
        choices = [("roll", task) for task in world.outstanding()]
        if world.core.next_push() is not None:
            choices.append(("answer", "accepted"))
        if mishaps:
            choices += [("lose", task) for task in world.outstanding()]
            if world.core.next_push() is not None:
                choices += [("answer", kind) for kind in ANSWERS[1:]]
        what, which = data.draw(st.sampled_from(choices))
        mishaps -= mishaps > 0 and (what == "lose" or which in ANSWERS[1:])
        getattr(world, what)(which)
    laps, extra = divmod(fragments, slots)
    assert world.accepted == collections.Counter(
        {slot: laps + (slot < extra) for slot in range(slots)}
    )
    assert world.sequences == list(range(1, len(world.sequences) + 1))
    assert world.core.failure is None


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 20), st.data())
def test_no_slot_starves_in_a_window_whatever_its_size(workers, envs, fragments, data):
    world = World(workers, envs)
    world.window(fragments)
    for _ in range(20 * workers * envs):
        # Answers are often late: what is rolled waits, and goes together.
        world.roll(min(world.outstanding()))
        while not world.outstanding() or data.draw(st.booleans()):
            if world.core.next_push() is None:
                break
            world.answer("accepted")
    pushed = [world.accepted[slot] for slot in range(workers * envs)]
    assert min(pushed) > 0
    if fragments <= workers:
        assert max(pushed) - min(pushed) <= 2
