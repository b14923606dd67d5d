// Rolls fragments and plays evaluated episodes, row by row, with one policy each.
// docs/writing-a-sampler.md: "Rows", "Noise", "States" and "Evaluations".

import { Tensor } from './policies.js';
import { generator, noise } from './random.js';
import { entriesOf } from './signature.js';
import { encode } from './tensors.js';

/** What the coming row of a life is fed, by the role of the input. */
const FED = {
  OBSERVATION: ({ observation }) => observation,
  STATE: ({ states }, { key, initial }) => states[key] ?? initial,
  RESET: ({ isFirst }) => [Number(isFirst)],
  NOISE: ({ noiseKey: [first, second, third], row }, input, place, { policy }) => {
    const draw = generator(first ^ policy.version, second ^ row, third ^ place);
    return noise(input.noise, input.size, draw);
  },
  SCALAR: ({ slot }, { key }, place, { scalars }) => {
    const values = scalars.get(key) ?? [];
    const value = values.length === 1 ? values[0] : values[slot];
    if (value === undefined) throw new RangeError(`the scalar ${key} lacks slot ${slot}`);
    return [value];
  },
};

/**
 * Rolls `rows` rows of some slots; answers a `TrajectoryBatch`, or null where `isWanted()` said no:
 * the slots' next fragments begin after a gap.
 */
export async function rollFragments(task, rows) {
  const { policy, signature, lives, progress, isWanted } = task;
  const columns = signature.columns.map((column) => new Column(column, rows, lives.length));
  const slots = lives.map(({ slot, incarnation, row }) => ({ slot, incarnation, first_row: row }));
  const episodes = [];
  for (let t = 0; t < rows; t += 1) {
    if (!isWanted()) {
      progress.rows_dropped += t * lives.length;
      return null;
    }
    const { entries, steps } = await advance(task, lives, signature.collecting);
    for (const column of columns) {
      const { role, address } = column;
      column.put(t, entries[address] ?? steps.map((step) => step[role]));
    }
    for (const life of lives.filter((_, i) => steps[i].EPISODE_END)) {
      const { slot, incarnation, row } = life;
      episodes.push({ ...life.episode(), slot, incarnation, end_row: row - 1 });
    }
  }
  const last = lives.flatMap(({ observation }) => [...observation]);
  columns.find(({ role }) => role === 'OBSERVATION')?.put(rows, last);
  const messages = columns.map((column) => column.message());
  return { version: policy.version, rows, slots, columns: messages, episodes };
}

/** Plays one greedy episode for each life, all at once; null where `isWanted()` said no. */
export async function playEpisodes(task) {
  let playing = task.lives;
  while (playing.length) {
    if (!task.isWanted()) return null;
    await advance(task, playing, task.signature.evaluating);
    playing = playing.filter(({ isOver }) => !isOver);
  }
  return task.lives.map((life) => life.episode());
}

/** One row of all lives: what was fed and answered by address, and what the steps did. */
async function advance(task, lives, { action, asked }) {
  const entries = {};
  const feeds = {};
  task.signature.inputs.forEach((input, place) => {
    const { address, name, role, shape, size, Elements, ortType } = input;
    const elements = new Elements(lives.length * size);
    lives.forEach((life, i) => elements.set(FED[role](life, input, place, task), i * size));
    entries[address] = elements;
    feeds[name] = new Tensor(ortType, elements, [lives.length, ...shape]);
  });
  const names = asked.map(({ name }) => name);
  const answers = await task.policy.session.run(feeds, names);
  for (const { address, name, role, key, size } of asked) {
    const { data } = answers[name];
    entries[address] = data;
    if (role !== 'NEXT_STATE') continue;
    lives.forEach((life, i) => {
      life.states[key] = data.subarray(i * size, (i + 1) * size);
    });
  }
  const { address, size } = action;
  const actions = entries[address];
  const of = (i) => (size === 1 ? Number(actions[i]) : actions.slice(i * size, (i + 1) * size));
  const steps = lives.map((life, i) => life.advance(of(i)));
  task.progress.rows_rolled += lives.length;
  return { entries, steps };
}

/** One column of a batch: time-major, the entries of row t at t x B x size. */
class Column {
  constructor(spec, rows, slots) {
    Object.assign(this, spec);
    this.slots = slots;
    this.entries = entriesOf(spec.extent, rows);
    this.elements = new spec.Elements(this.entries * slots * spec.size);
  }

  /** Takes row t, unless the column is of the first row alone. */
  put(t, values) {
    if (t < this.entries) this.elements.set(values, t * this.slots * this.size);
  }

  message() {
    const { role, group, key, extent, entries, slots, dtype, shape } = this;
    const leading = extent === 'EXTENT_INITIAL' ? [slots] : [entries, slots];
    const tensor = encode(dtype, [...leading, ...shape], this.elements);
    return { role: `ROLE_${role}`, group, key, tensor };
  }
}
