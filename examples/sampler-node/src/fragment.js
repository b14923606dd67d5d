// Rolls fragments: T rows of B slots with one policy, as the columns that the signature asks for.

import { performance } from 'node:perf_hooks';
import { Actor } from './actor.js';
import { encode } from './tensors.js';

const ROLES_OF_STEPS = {
  REWARD: 'reward',
  TERMINATED: 'terminated',
  TRUNCATED: 'truncated',
  IS_FIRST: 'isFirst',
  VALID: 'isValid',
  EPISODE_END: 'ended',
};

/**
 * Rolls the slots (lives with a `slot` and an `incarnation`) and answers a `TrajectoryBatch`; null
 * where `isWanted()` said that nobody wants it any more: the slots' next fragments begin after a gap.
 * `progress` counts rows and seconds.
 */
export async function rollFragment(task) {
  const { policy, signature, slots, rows, scalars, progress, isWanted } = task;
  const asked = signature.collecting;
  const actor = new Actor(signature, asked, slots);
  actor.setScalars(
    scalars,
    slots.map(({ slot }) => slot),
  );
  const columns = signature.columns.map((column) => new Column(column, rows, slots.length));
  const seen = columns.filter(({ extent }) => extent === 'EXTENT_ROWS_PLUS_ONE');
  const stepped = columns.filter(({ role }) => role in ROLES_OF_STEPS);
  const answered = columns.filter(({ role }) => role === 'ACTION' || role === 'RECORD');
  for (const column of columns.filter(({ extent }) => extent === 'EXTENT_INITIAL')) {
    column.put(0, actor.states.find(({ key }) => key === column.key).elements);
  }
  const parts = slots.map(({ slot, incarnation, row }) => ({ slot, incarnation, first_row: row }));
  const episodes = [];
  for (let t = 0; isWanted(); t += 1) {
    for (const column of seen) slots.forEach((life, i) => column.putOne(t, i, life.observation));
    if (t === rows) {
      actor.keepStates();
      const version = String(policy.version);
      return {
        version,
        rows,
        slots: parts,
        columns: columns.map((one) => one.message()),
        episodes,
      };
    }
    const began = performance.now();
    const answers = await actor.act(policy);
    const acted = performance.now();
    for (const column of answered) column.put(t, answers[signature.outputOf(column)]);
    const actions = answers[asked.action.name];
    slots.forEach((life, i) => {
      const row = life.advance(actionOf(actions, i, asked.action.size));
      for (const column of stepped) column.putOne(t, i, [row[ROLES_OF_STEPS[column.role]]]);
      if (row.ended) episodes.push(episodeOf(life, row));
    });
    progress.rows_rolled += slots.length;
    progress.policy_seconds += (acted - began) / 1000;
    progress.environment_seconds += (performance.now() - acted) / 1000;
  }
  actor.keepStates();
  progress.rows_dropped += (slots[0].row - parts[0].first_row) * slots.length;
  return null;
}

/** What an environment is stepped with: a number, or an array of them. */
export function actionOf(actions, i, size) {
  return size === 1 ? Number(actions[i]) : actions.subarray(i * size, (i + 1) * size);
}

/** The episode that a life's last row ended. */
export function episodeOf({ slot, incarnation, row, episodeReturn, length }, { terminated }) {
  const ended = { episode_return: episodeReturn, length, terminated };
  return slot === undefined ? ended : { ...ended, slot, incarnation, end_row: row - 1 };
}

/** One column of a batch: time-major, entry (t, slot) at (t x B + slot) x size. */
class Column {
  constructor(spec, rows, slots) {
    Object.assign(this, spec);
    this.slots = slots;
    this.leading = {
      EXTENT_ROWS: [rows, slots],
      EXTENT_ROWS_PLUS_ONE: [rows + 1, slots],
      EXTENT_INITIAL: [slots],
    }[spec.extent];
    const entries = this.leading.reduce((product, size) => product * size, 1);
    this.elements = new spec.Elements(entries * spec.size);
  }

  put(t, values) {
    this.elements.set(values, t * this.slots * this.size);
  }

  putOne(t, i, value) {
    this.elements.set(value, (t * this.slots + i) * this.size);
  }

  message() {
    const { role, group, key, dtype, shape } = this;
    const tensor = encode(dtype, [...this.leading, ...shape], this.elements);
    return { role: `ROLE_${role}`, group, key, tensor };
  }
}

/** A batch in two, by slots; for a push that is larger than the learner takes. */
export function split(batch) {
  const half = Math.ceil(batch.slots.length / 2);
  return [
    [0, half],
    [half, batch.slots.length],
  ].map(([from, to]) => {
    const slots = batch.slots.slice(from, to);
    const numbers = new Set(slots.map(({ slot }) => slot));
    return {
      ...batch,
      slots,
      columns: batch.columns.map((column) => sliced(column, batch, from, to)),
      episodes: batch.episodes.filter(({ slot }) => numbers.has(slot)),
    };
  });
}

function sliced(column, { slots }, from, to) {
  const { dtype, shape, data } = column.tensor;
  // A column of rows begins [T, B] or [T + 1, B], one of initial values [B].
  const axis = column.role === 'ROLE_STATE' ? 0 : 1;
  const laps = axis ? shape[0] : 1;
  const lap = data.length / laps;
  const entry = lap / slots.length;
  const parts = Array.from({ length: laps }, (_, t) =>
    data.subarray(t * lap + from * entry, t * lap + to * entry),
  );
  const cut = shape.with(axis, to - from);
  return { ...column, tensor: { dtype, shape: cut, data: Buffer.concat(parts) } };
}
