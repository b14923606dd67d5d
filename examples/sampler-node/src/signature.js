// The learner's signature, as one agent's sampler reads it: what the graph is fed, what it answers,
// which columns a batch has. Nothing here knows an algorithm.

import { decode, kindOf, shapeOf, sizeOf } from './tensors.js';

const FED = ['OBSERVATION', 'STATE', 'RESET', 'NOISE', 'SCALAR'];
const ANSWERED = ['ACTION', 'GREEDY_ACTION', 'NEXT_STATE', 'RECORD'];
const OF_STEPS = ['REWARD', 'TERMINATED', 'TRUNCATED', 'IS_FIRST', 'VALID', 'EPISODE_END'];
const RECORDED = ['OBSERVATION', 'STATE', 'ACTION', 'RECORD', ...OF_STEPS];
// What stands in a push besides the elements of its columns takes less.
const OVERHEAD_BYTES = 4096;

/** The inputs, outputs and columns of a `Signature` message; refuses what cannot be served here. */
export class Signature {
  constructor(message) {
    this.inputs = message.inputs.map((one) => entry(one, FED, 'input'));
    this.outputs = message.outputs.map((one) => entry(one, ANSWERED, 'output'));
    this.columns = message.columns.map((one) => entry(one, RECORDED, 'column'));
    for (const input of this.inputs.filter(({ role }) => role === 'STATE')) {
      input.initial = decode(input.initial_state).elements;
    }
    for (const column of this.columns.filter(({ role }) => ['ACTION', 'RECORD'].includes(role))) {
      column.output = find(this.outputs, column.role, column.key).name;
    }
    const states = this.outputs.filter(({ role }) => role === 'NEXT_STATE');
    const stateful = [...states, ...this.columns.filter(({ role }) => role === 'STATE')];
    for (const { key } of stateful) find(this.inputs, 'STATE', key);
    const action = find(this.outputs, 'ACTION', '');
    const greedy = this.outputs.find(({ role }) => role === 'GREEDY_ACTION') ?? action;
    const recorded = this.columns.flatMap(({ output }) => output ?? []);
    /** What to ask of the graph when collecting, and when evaluating. */
    this.collecting = asked(action, states, recorded);
    this.evaluating = asked(greedy, states, []);
  }

  /** How many slots' fragments of so many rows a push of so many bytes has room for. */
  slotsPerPush(rows, bytes) {
    const entries = { EXTENT_ROWS: rows, EXTENT_ROWS_PLUS_ONE: rows + 1, EXTENT_INITIAL: 1 };
    const fragment = this.columns.reduce((sum, { extent, size, Elements }) => {
      return sum + entries[extent] * size * Elements.BYTES_PER_ELEMENT;
    }, 0);
    return Math.max(1, Math.floor((bytes - OVERHEAD_BYTES) / fragment));
  }
}

function asked(action, states, recorded) {
  const { name, size } = action;
  return {
    states,
    names: [...new Set([name, ...states.map((one) => one.name), ...recorded])],
    /** What life `i` steps with: a number, or an array of them. */
    actionOf: ({ [name]: actions }, i) =>
      size === 1 ? Number(actions[i]) : actions.subarray(i * size, (i + 1) * size),
  };
}

function find(entries, role, key) {
  const found = entries.find((one) => one.role === role && one.key === key);
  if (!found) throw new RangeError(`the signature has no ${role} ${key}`);
  return found;
}

function entry(message, roles, what) {
  const role = message.role.replace('ROLE_', '');
  const isNested = role === 'OBSERVATION' && message.key;
  if (message.group || isNested || !roles.includes(role)) {
    const name = [role, message.group, message.key].filter(Boolean).join('/');
    throw new RangeError(`this sampler has one agent that sees one array; no ${what} ${name} here`);
  }
  const shape = shapeOf(message);
  return { ...message, role, shape, size: sizeOf(shape), ...kindOf(message.dtype) };
}
