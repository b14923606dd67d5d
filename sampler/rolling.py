"""The hot loop: a worker's slots rolled through whole segments.

A row is one call of the policy for all slots of the task and one step of each. The arrays that the
policy reads and writes stay the same from row to row (`sampler.acting`); a row is copied into the
segment's columns from there. What a row does not need waits for the end of the segment.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from common.signature import ColumnKey, Extent, Role
from sampler import acting
from sampler.environments.stepping import Finals, Observed, Tape
from sampler.episodes import marks
from sampler.lives import Lives
from sampler.noise import NoiseSource
from sampler.segments import Contents, SegmentLayout, select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from common.signature import Signature
    from sampler.acting import ActingArrays, Scalars
    from sampler.environments.stepping import Environments, Live
    from sampler.episodes import Finished
    from sampler.policy import Policy
    from sampler.seeding import SlotIdentity
    from sampler.segments import Segment
    from sampler.workload import Workload

    Copies: TypeAlias = list[tuple[NDArray[Any], NDArray[Any]]]

_VALID, _IS_FIRST = ColumnKey(Role.VALID), ColumnKey(Role.IS_FIRST)
_EPISODE_END = ColumnKey(Role.EPISODE_END)


class Rolling:
    """Rolls a worker's slots.

    Args:
        environments: The copies, one for each slot; they are reset here.
        signature: How the policy is fed and what is recorded.
        identities: The slots, in the order of the copies.
        workload: Gets the rows and the time spent.

    Raises:
        PoolError: The signature does not fit the environment.
    """

    def __init__(
        self,
        environments: Environments,
        signature: Signature,
        identities: Sequence[SlotIdentity],
        workload: Workload,
    ) -> None:
        acting.check(signature, environments.spec)
        self._environments = environments
        self._signature = signature
        self._workload = workload
        spec = environments.spec
        self._lives = Lives(signature, spec, identities)
        self._places = spec.places()
        self._agents = (len(spec.agents),) if spec.multi_agent else ()
        self._bound: _Bound | None = None
        seeds = [one.environment_seed() for one in identities]
        environments.reset(seeds, self._lives.home.live, workload.counters)

    def layout(self, rows: int, slots: int) -> SegmentLayout:
        """What a segment's buffer must hold."""
        environments = self._environments
        return SegmentLayout(
            self._signature, environments.spec, rows, slots, with_finals=not environments.late
        )

    def roll(
        self, slots: Sequence[int], rows: int, policy: Policy, scalars: Scalars, segment: Segment
    ) -> Contents:
        """Rolls a segment.

        Where the environments are stepped together and not all are wanted, the others go along and
        what they see is thrown away: their next segment begins after a gap.

        Args:
            slots: The numbers of B slots of this worker.
            rows: T.
            policy: Acts in every row.
            scalars: The exploration values.
            segment: Where the rows go: a view of `layout(rows, len(slots))`.

        Returns:
            What the segment holds.

        Raises:
            Exception: Whatever an environment raises; the slots cannot go on after it.
        """
        chosen = self._lives.positions(slots)
        if not self._environments.together or len(chosen) == len(self._lives):
            return self._roll(chosen, rows, policy, scalars, segment)
        layout = self.layout(rows, len(self._lives))
        whole = layout.views(bytearray(layout.size_bytes))
        contents = self._roll(np.arange(len(self._lives)), rows, policy, scalars, whole)
        return select(whole, contents, chosen.tolist(), segment)

    def _roll(
        self,
        chosen: NDArray[np.intp],
        rows: int,
        policy: Policy,
        scalars: Scalars,
        segment: Segment,
    ) -> Contents:
        lives = self._lives
        identities = [lives.identities[position] for position in chosen.tolist()]
        first_rows = lives.next_row[chosen]
        arrays = lives.arrive(chosen)
        arrays.set_scalars(scalars, [one.slot for one in identities])
        for (group, key), state in arrays.states.items():
            column = segment.columns.get(ColumnKey(Role.STATE, group, key))
            if column is not None:
                column[...] = state
        tape = self._tape(rows, arrays, lives.pending[chosen], segment)
        starting, pending = tape.starting.copy(), tape.pending.copy()
        act = self._act(policy, arrays, lives.noise_keys[chosen], first_rows, rows)
        self._loop(rows, act, self._environments.stepper(tape, chosen.tolist()), arrays, segment)
        finished = self._complete(chosen, tape, starting, pending, segment)
        lives.next_row[chosen] += np.uint64(rows)
        lives.leave(chosen, arrays)
        return Contents(
            version=policy.version,
            rows=rows,
            slots=[one.slot for one in identities],
            incarnations=[one.incarnation for one in identities],
            first_rows=first_rows.tolist(),
            finals=_write_finals(tape, segment),
            episodes=len(finished.rows),
            metrics=_metrics(tape, finished),
        )

    def _tape(
        self, rows: int, arrays: ActingArrays, pending: NDArray[np.bool_], segment: Segment
    ) -> Tape:
        shape = (rows, arrays.copies, *self._agents)
        terminated, truncated = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        return Tape(
            live=arrays.live,
            actions=arrays.actions,
            rewards=np.zeros(shape, np.float64),
            terminated=terminated,
            truncated=truncated,
            ended=np.zeros(shape[:2], np.bool_),
            starting=arrays.starting,
            pending=pending,
            resets_fed=bool(self._signature.inputs_of(Role.RESET)),
            endings=[],
            lives_lost=[],
            finals=None if self._environments.late else _finals(segment),
            counters=self._workload.counters,
        )

    def _act(
        self,
        policy: Policy,
        arrays: ActingArrays,
        noise_keys: NDArray[np.uint64],
        first_rows: NDArray[np.uint64],
        rows: int,
    ) -> Callable[[int], None]:
        bound = self._bound
        if bound is None or bound.policy is not policy or bound.arrays is not arrays:
            bound = self._bound = _Bound(self._signature, policy, arrays)
        draws = bound.noise.draw(noise_keys, policy.version, first_rows, rows)
        noise = [(arrays.inputs[name], drawn) for name, drawn in draws.items()]
        return arrays.act(bound.run, noise)

    def _loop(
        self,
        rows: int,
        act: Callable[[int], None],
        step: Callable[[int], None],
        arrays: ActingArrays,
        segment: Segment,
    ) -> None:
        observed, answered = self._copies(arrays, segment)
        clock = time.perf_counter
        began, acted = clock(), 0.0
        for row in range(rows):
            for column, array in observed:
                column[row] = array
            before = clock()
            act(row)
            acted += clock() - before
            for column, array in answered:
                column[row] = array
            step(row)
        for column, array in observed:
            column[rows] = array
        self._workload.add_seconds(policy=acted, environment=clock() - began - acted)

    def _copies(self, arrays: ActingArrays, segment: Segment) -> tuple[Copies, Copies]:
        """Pairs of a column and what its rows are copied from, before and after acting."""
        observed: Copies = []
        answered: Copies = []
        for spec in self._signature.columns:
            column = segment.columns[spec.key]
            if spec.extent == Extent.ROWS_PLUS_ONE:
                observed.append((column, self._seen(arrays.live, spec.key)))
            elif spec.extent == Extent.ROWS and spec.key in arrays.records:
                answered.append((column, arrays.records[spec.key]))
        return observed, answered

    def _seen(self, live: Live, key: ColumnKey) -> NDArray[Any]:
        """Where environments write what a column records."""
        match key.role:
            case Role.ALIVE:
                return live.alive[:, self._places[key.group]]
            case Role.GLOBAL_STATE:
                return live.state[key.key]
            case Role.ACTION_MASK if (mask := live.groups[key.group].mask) is not None:
                return mask
            case _:
                return live.groups[key.group].leaves[key.key]

    def _complete(
        self,
        chosen: NDArray[np.intp],
        tape: Tape,
        starting: NDArray[np.bool_],
        pending: NDArray[np.bool_],
        segment: Segment,
    ) -> Finished:
        """Fills the columns that follow from rewards and ends, and the episodes."""
        done = tape.ended if self._agents else tape.terminated | tape.truncated
        valid, is_first = marks(done, starting, pending, late=self._environments.late)
        if self._environments.late:
            # A vectorisation may report whatever it likes for the row in which it resets.
            tape.rewards[~valid] = 0.0
            self._lives.pending[chosen] = done[-1]
            tape.starting[...] = ~valid[-1]
        else:
            tape.starting[...] = done[-1]
        for row, position in tape.lives_lost:
            tape.terminated[row, position] = True
        for key, array in ((_VALID, valid), (_IS_FIRST, is_first), (_EPISODE_END, done)):
            if key in segment.columns:
                segment.columns[key][...] = array
        for role, array in (
            (Role.REWARD, tape.rewards),
            (Role.TERMINATED, tape.terminated),
            (Role.TRUNCATED, tape.truncated),
        ):
            for group, places in self._places.items():
                if ColumnKey(role, group) in segment.columns:
                    of_group = array[:, :, places] if self._agents else array
                    segment.columns[ColumnKey(role, group)][...] = of_group
        if self._agents:
            self._clear_absent(segment)
        finished = self._lives.tally.add(chosen, tape.rewards, valid, done)
        self._note_episodes(finished, tape, segment)
        return finished

    def _clear_absent(self, segment: Segment) -> None:
        """Makes what the policy answered for agents that did not act zeros."""
        for key, column in segment.columns.items():
            alive = segment.columns.get(ColumnKey(Role.ALIVE, key.group))
            if alive is not None and key.role in (Role.ACTION, Role.RECORD):
                column[~alive[:-1]] = 0

    def _note_episodes(self, finished: Finished, tape: Tape, segment: Segment) -> None:
        episodes = segment.episodes[: len(finished.rows)]
        ends = finished.rows, finished.positions
        episodes["position"], episodes["row"] = finished.positions, finished.rows
        episodes["length"] = finished.lengths
        if self._agents:
            episodes["agents"], episodes["total"] = finished.totals, finished.totals.mean(1)
            terminated, truncated = tape.terminated[ends].any(1), tape.truncated[ends].any(1)
            episodes["terminated"] = terminated & ~truncated
        else:
            episodes["total"] = finished.totals
            episodes["terminated"] = tape.terminated[ends]


class _Bound:
    """A policy bound to arrays, kept while both stay."""

    def __init__(self, signature: Signature, policy: Policy, arrays: ActingArrays) -> None:
        self.policy, self.arrays = policy, arrays
        self.run = policy.bind(arrays.inputs, arrays.outputs)
        fed = [one for one in signature.inputs_of(Role.NOISE) if one.name in policy.inputs]
        self.noise = NoiseSource(fed)


def _finals(segment: Segment) -> Finals:
    leaves = {key.key: one for key, one in segment.finals.items() if key.role == Role.OBSERVATION}
    return Finals([], [], Observed(leaves, segment.finals.get(ColumnKey(Role.ACTION_MASK))))


def _write_finals(tape: Tape, segment: Segment) -> int:
    if tape.finals is None:
        return 0
    count = len(tape.finals.rows)
    segment.final_rows[:count] = tape.finals.rows
    segment.final_positions[:count] = tape.finals.positions
    return count


def _metrics(tape: Tape, finished: Finished) -> dict[str, dict[str, float]]:
    if not tape.endings:
        return {}
    ends = zip(finished.rows.tolist(), finished.positions.tolist(), strict=True)
    places = {end: place for place, end in enumerate(ends)}
    return {str(places[row, position]): found for row, position, found in tape.endings if found}
