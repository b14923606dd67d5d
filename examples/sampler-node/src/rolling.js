// Rolls fragments and plays evaluated episodes, row by row, with one policy each.

import { Actor } from './actor.js';
import { encode } from './tensors.js';

const STEP_COLUMNS = {
  REWARD: 'reward',
  TERMINATED: 'terminated',
  TRUNCATED: 'truncated',
  IS_FIRST: 'isFirst',
  VALID: 'isValid',
  EPISODE_END: 'ended',
};

/**
 * Rolls `rows` rows of some slots (lives with a `slot` and an `incarnation`); answers a
 * `TrajectoryBatch`, or null where `isWanted()` said that nobody wants it any more: the slots' next
 * fragments begin after a gap. `progress` counts rows.
 */
export async function rollFragments(task) {
  const { policy, signature, slots, rows, scalars, progress, isWanted } = task;
  const { collecting } = signature;
  const actor = new Actor(signature, collecting, slots);
  actor.setScalars(
    scalars,
    slots.map(({ slot }) => slot),
  );
  const columns = signature.columns.map((column) => new Column(column, rows, slots.length));
  const parts = slots.map(({ slot, incarnation, row }) => ({ slot, incarnation, first_row: row }));
  const episodes = [];
  const see = (t) => {
    for (const column of columns.filter(({ role }) => role === 'OBSERVATION')) {
      slots.forEach((life, i) => {
        column.put(t, i, life.observation);
      });
    }
  };
  for (const column of columns.filter(({ role }) => role === 'STATE')) {
    column.elements.set(actor.state(column.key));
  }
  for (let t = 0; t < rows; t += 1) {
    if (!isWanted()) {
      actor.keepStates();
      progress.rows_dropped += t * slots.length;
      return null;
    }
    see(t);
    const answers = await actor.act(policy);
    slots.forEach((life, i) => {
      const row = life.advance(collecting.actionOf(answers, i));
      if (row.ended) episodes.push(episodeOf(life, row));
      for (const column of columns) {
        const { role, size } = column;
        if (role in STEP_COLUMNS) column.put(t, i, [row[STEP_COLUMNS[role]]]);
        if (column.output) {
          column.put(t, i, answers[column.output].subarray(i * size, (i + 1) * size));
        }
      }
    });
    progress.rows_rolled += slots.length;
  }
  see(rows);
  actor.keepStates();
  const messages = columns.map((column) => column.message());
  return { version: String(policy.version), rows, slots: parts, columns: messages, episodes };
}

/** Plays one greedy episode for each life, all at once; null where `isWanted()` said no. */
export async function playEpisodes({ policy, signature, lives, scalars, progress, isWanted }) {
  const actor = new Actor(signature, signature.evaluating, lives);
  // An evaluation belongs to no slot: where each slot has a value, that of the first one is fed.
  actor.setScalars(
    scalars,
    lives.map(() => 0),
  );
  const episodes = new Array(lives.length).fill(null);
  while (episodes.includes(null)) {
    if (!isWanted()) return null;
    const answers = await actor.act(policy);
    lives.forEach((life, i) => {
      if (episodes[i]) return;
      const row = life.advance(signature.evaluating.actionOf(answers, i));
      progress.rows_rolled += 1;
      if (row.ended) episodes[i] = episodeOf(life, row);
    });
  }
  return episodes;
}

/** The episode that a life's last row ended. */
function episodeOf({ slot, incarnation, row, episodeReturn, length }, { terminated }) {
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
    this.elements = new spec.Elements(this.leading.reduce((a, b) => a * b) * spec.size);
  }

  put(t, i, values) {
    this.elements.set(values, (t * this.slots + i) * this.size);
  }

  message() {
    const { role, group, key, dtype, shape } = this;
    const tensor = encode(dtype, [...this.leading, ...shape], this.elements);
    return { role: `ROLE_${role}`, group, key, tensor };
  }
}
