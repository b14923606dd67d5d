"""Admission: what a push must be before a byte of it is stored. No network, no clock, no state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from common.errors import InvalidFieldError
from common.signature import ColumnKey, Role
from learner.experience import columns
from learner.experience.on_policy import NONE, FragmentKey, Segment
from learner.front.refusals import Refusal
from learner.front.session import INCARNATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from common.signature import Signature
    from learner.front.session import Session
    from learner.rounds import Round, RoundGrant
    from protos.wiserl.v1 import trajectory_pb2

EPISODE_END = ColumnKey(Role.EPISODE_END)


class Admission:
    """Checks batches against the run's signature and against the grant they were rolled under.

    Attributes:
        agents: How many agents' returns an episode has; 0 for a single agent.
    """

    def __init__(self, signature: Signature) -> None:
        self._decoder = columns.ColumnDecoder(signature.columns)
        self._final_decoder = columns.ColumnDecoder(columns.final_columns(signature.columns))
        self.agents = sum(
            column.shape[0]
            for column in signature.columns
            if column.key.role == Role.REWARD and column.shape
        )

    def segment(self, batch: trajectory_pb2.TrajectoryBatch) -> Segment:
        """The arrays of a batch whose rows and slots were checked, over the message's own bytes.

        Raises:
            InvalidFieldError: Columns, final observations or episodes that cannot be those of such
                a batch. The field is relative to the batch.
        """
        found = self._decoder.rows_and_slots(batch.columns, batch.rows, len(batch.slots))
        ends = found.get(EPISODE_END)
        rows, slots, values = self._final_observations(batch, ends)
        return Segment(found, rows, slots, values, _episodes(batch, ends, self.agents))

    def _final_observations(
        self, batch: trajectory_pb2.TrajectoryBatch, ends: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], columns.Columns]:
        if not batch.HasField("final_observations"):
            return NONE, NONE, {}
        message = batch.final_observations
        rows = np.array(message.rows, np.int64)
        slots = np.array(message.slots, np.int64)
        if not rows.size and not slots.size and not message.columns:
            return NONE, NONE, {}
        try:
            _check_steps(rows, slots, batch.rows, len(batch.slots), ends)
            return rows, slots, self._final_decoder.entries(message.columns, len(rows))
        except InvalidFieldError as error:
            raise error.under("final_observations") from None


def _check_steps(
    rows: NDArray[np.int64],
    slots: NDArray[np.int64],
    row_count: int,
    slot_count: int,
    ends: NDArray[Any] | None,
) -> None:
    """That final observations belong to different steps of the batch that ended an episode."""
    if len(rows) != len(slots):
        raise InvalidFieldError("slots", f"{len(slots)} entries for {len(rows)} rows")
    for field, entries, bound in (("rows", rows, row_count), ("slots", slots, slot_count)):
        if (entries >= bound).any():
            raise InvalidFieldError(field, f"{entries.max()} is not in [0, {bound})")
    if len(np.unique(rows * slot_count + slots)) < len(rows):
        raise InvalidFieldError("rows", "two entries are of the same step")
    if ends is not None and not ends[rows, slots].all():
        raise InvalidFieldError("rows", "an entry is of a step whose episode_end is false")


def _episodes(
    batch: trajectory_pb2.TrajectoryBatch, ends: NDArray[Any] | None, agents: int
) -> list[tuple[int, trajectory_pb2.Episode]]:
    """The batch's episodes with their slots' positions.

    Raises:
        InvalidFieldError: An episode that no step of the batch ended, two of one step, or a return
            that is NaN or infinite.
    """
    parts = {
        part.slot: (position, part.incarnation, part.first_row)
        for position, part in enumerate(batch.slots)
    }
    found: dict[tuple[int, int], trajectory_pb2.Episode] = {}
    for i, episode in enumerate(batch.episodes):
        try:
            position, row = _end_of(episode, batch.rows, parts)
            check_episode(episode, agents)
            _check_end(row, position, ends, is_known=(position, row) in found)
        except InvalidFieldError as error:
            raise error.under(f"episodes[{i}]") from None
        found[position, row] = episode
    return [(position, episode) for (position, _), episode in found.items()]


def _check_end(row: int, position: int, ends: NDArray[Any] | None, *, is_known: bool) -> None:
    if is_known:
        raise InvalidFieldError("end_row", "is that of another episode of the batch, too")
    if ends is not None and not ends[row, position]:
        raise InvalidFieldError("end_row", "is of a step whose episode_end is false")


def _end_of(
    episode: trajectory_pb2.Episode, rows: int, parts: dict[int, tuple[int, int, int]]
) -> tuple[int, int]:
    """Position of the slot and row in the batch where an episode ended.

    Args:
        episode: One of the batch's.
        rows: Of the batch.
        parts: The position, incarnation and first row of each of its slots.
    """
    if episode.slot not in parts:
        raise InvalidFieldError("slot", f"{episode.slot} is no slot of this batch")
    position, incarnation, first_row = parts[episode.slot]
    if episode.incarnation != incarnation:
        raise InvalidFieldError(
            "incarnation", f"{episode.incarnation}, but the slot's is {incarnation}"
        )
    row = episode.end_row - first_row
    if not 0 <= row < rows:
        raise InvalidFieldError(
            "end_row", f"{episode.end_row} is not in [{first_row}, {first_row + rows})"
        )
    return position, row


def check_episode(episode: trajectory_pb2.Episode, agents: int) -> None:
    """That the returns of an episode are numbers, one for each of several agents.

    Raises:
        InvalidFieldError: One is NaN or infinite, or there are more or fewer than agents.
    """
    if not math.isfinite(episode.episode_return):
        raise InvalidFieldError("episode_return", f"{episode.episode_return} is not finite")
    returns = episode.agent_returns
    if len(returns) != agents:
        raise InvalidFieldError(
            "agent_returns",
            f"{len(returns)} returns for {agents} agents; give one for each of "
            "several agents in the order of the spec, and none for a single agent",
        )
    if agents and not all(map(math.isfinite, returns)):
        raise InvalidFieldError("agent_returns", "one is not finite")


def check_granted(
    batch: trajectory_pb2.TrajectoryBatch, session: Session, grant: RoundGrant, current: Round
) -> None:
    """That a batch holds whole fragments which this grant still waits for, and each for once.

    Raises:
        InvalidFieldError: Another version than granted, a slot without a fragment to come, or what
            `check_parts` says. The field is relative to the batch.
        Refusal: See `check_parts`.
    """
    if batch.version != current.version:
        raise InvalidFieldError(
            "version", f"{batch.version}, but the grant is for version {current.version}"
        )
    check_parts(batch, session, current.rows)
    for i, part in enumerate(batch.slots):
        if part.slot >= grant.slots:
            raise InvalidFieldError(
                f"slots[{i}].slot",
                f"{part.slot} takes no part in grant {grant.grant_id}; use [0, {grant.slots})",
            )
        if not grant.pending[part.slot]:
            raise InvalidFieldError(
                f"slots[{i}].slot",
                f"{part.slot} has brought all its fragments of grant {grant.grant_id}",
            )


def check_flowing(
    batch: trajectory_pb2.TrajectoryBatch, session: Session, *, rows: int, newest_version: int
) -> None:
    """That a batch holds whole fragments of any published version, whatever grant they are of.

    Raises:
        InvalidFieldError: A version that was never published, or what `check_parts` says. The field
            is relative to the batch.
        Refusal: See `check_parts`.
    """
    if not 1 <= batch.version <= newest_version:
        raise InvalidFieldError(
            "version", f"{batch.version} is not in [1, {newest_version}], those published so far"
        )
    check_parts(batch, session, rows)


def check_parts(batch: trajectory_pb2.TrajectoryBatch, session: Session, rows: int) -> None:
    """That a batch holds whole fragments of different slots, further on in the lives of these.

    Raises:
        InvalidFieldError: Another T than `rows`, no slots, a slot that is out of range, there
            twice, or at a place in its life that it cannot be at. The field is relative to the
            batch.
        Refusal: RESOURCE_EXHAUSTED: more slots than the sampler said it would push at once.
    """
    if batch.rows != rows:
        raise InvalidFieldError("rows", f"{batch.rows}, but the grant is for fragments of {rows}")
    if not batch.slots:
        raise InvalidFieldError("slots", "is empty; a batch holds at least one fragment")
    if len(batch.slots) > session.max_slots_per_push:
        raise Refusal.too_large(
            f"{len(batch.slots)} slots in one push exceed the {session.max_slots_per_push} of "
            "max_slots_per_push at registration; split the push by slots"
        )
    seen: set[int] = set()
    for i, part in enumerate(batch.slots):
        if part.slot in seen:
            raise InvalidFieldError(f"slots[{i}].slot", f"{part.slot} stands there twice")
        try:
            _check_part(part, session)
        except InvalidFieldError as error:
            raise error.under(f"slots[{i}]") from None
        seen.add(part.slot)


def _check_part(part: trajectory_pb2.SlotPart, session: Session) -> None:
    if part.slot >= session.slots:
        raise InvalidFieldError(
            "slot", f"{part.slot} is not in [0, {session.slots}), the slots of the registration"
        )
    base = session.incarnation_base
    if not base <= part.incarnation < base + INCARNATIONS:
        raise InvalidFieldError(
            "incarnation",
            f"{part.incarnation} is not in [{base}, {base + INCARNATIONS}); count from the "
            "incarnation_base of the last registration",
        )
    incarnation, next_row = session.lives.get(part.slot, (base, 0))
    if part.incarnation < incarnation:
        raise InvalidFieldError(
            "incarnation", f"{part.incarnation} after {incarnation}; incarnations only grow"
        )
    if part.incarnation == incarnation and part.first_row < next_row:
        raise InvalidFieldError(
            "first_row", f"{part.first_row}, but rows up to {next_row} of this slot were pushed"
        )


def keys_of(parts: Sequence[trajectory_pb2.SlotPart], index: int) -> list[FragmentKey]:
    """Where the fragments of a batch of the sampler of this index stand among all of the run."""
    return [FragmentKey(index, part.slot, part.incarnation, part.first_row) for part in parts]


def advance(session: Session, parts: Sequence[trajectory_pb2.SlotPart], rows: int) -> None:
    """Notes that these fragments of `rows` rows are stored: no later push may bring them again."""
    for part in parts:
        session.lives[part.slot] = (part.incarnation, part.first_row + rows)
