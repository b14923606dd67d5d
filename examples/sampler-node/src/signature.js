// What the graph is fed, what it answers and which columns a batch has.
// docs/writing-a-sampler.md: "The signature". Nothing here knows an algorithm.

import { EXIT, Stop } from './exits.js';
import { decode, kindOf, sizeOf } from './tensors.js';

// By address, which is role, group and key: one agent that sees one array has no group, and its
// observation no key.
const INPUTS = /^((OBSERVATION|RESET)\/\/|(STATE|NOISE|SCALAR)\/\/.*)$/;
const OUTPUTS = /^((ACTION|GREEDY_ACTION)\/\/|(NEXT_STATE|RECORD)\/\/.*)$/;
const STEPS = /^(REWARD|TERMINATED|TRUNCATED|IS_FIRST|VALID|EPISODE_END)\/\/$/;
// What stands in a push besides the elements of its columns takes less.
const OVERHEAD_BYTES = 4096;

/** The signature of a `Signature` message; stops where it names what cannot be served here. */
export function readSignature(message) {
  try {
    return new Signature(message);
  } catch (error) {
    throw new Stop(EXIT.REFUSED, `the learner's signature: ${error.message}`);
  }
}

/** What is fed, asked and recorded. */
class Signature {
  constructor({ inputs, outputs, columns }) {
    this.inputs = inputs.map((input) => entry(input, (address) => INPUTS.test(address)));
    this.outputs = outputs.map((output) => entry(output, (address) => OUTPUTS.test(address)));
    const given = new Set([...this.inputs, ...this.outputs].map(({ address }) => address));
    this.columns = columns.map((column) => {
      return entry(column, (address) => STEPS.test(address) || given.has(address));
    });
    for (const input of this.inputs) {
      if (input.role === 'STATE') input.initial = decode(input.initial_state).elements;
    }
    const action = this.outputs.find(({ role }) => role === 'ACTION');
    if (!action) throw new RangeError('it has no ACTION');
    const greedy = this.outputs.find(({ role }) => role === 'GREEDY_ACTION') ?? action;
    const states = this.outputs.filter(({ role }) => role === 'NEXT_STATE');
    const recorded = new Set(this.columns.map(({ address }) => address));
    const others = this.outputs.filter(({ address }) => recorded.has(address));
    /** The action to step with and what is asked of the graph: in collecting, in evaluating. */
    this.collecting = { action, asked: [...new Set([action, ...states, ...others])] };
    this.evaluating = { action: greedy, asked: [greedy, ...states] };
  }

  /** How many slots' fragments of so many rows a push of so many bytes has room for. */
  slotsPerPush(rows, bytes) {
    const fragment = this.columns.reduce((sum, { extent, size, Elements }) => {
      return sum + entriesOf(extent, rows) * size * Elements.BYTES_PER_ELEMENT;
    }, 0);
    return Math.max(1, Math.floor((bytes - OVERHEAD_BYTES) / fragment));
  }
}

/** How many entries a column has for so many rows. */
export function entriesOf(extent, rows) {
  return { EXTENT_ROWS: rows, EXTENT_ROWS_PLUS_ONE: rows + 1, EXTENT_INITIAL: 1 }[extent];
}

/** An entry with what follows from its role, dtype and shape. */
function entry(message, isKnown) {
  const role = message.role.replace('ROLE_', '');
  const address = `${role}/${message.group}/${message.key}`;
  if (!isKnown(address)) {
    throw new RangeError(`${address} is none of one agent that sees one array`);
  }
  const shape = message.shape.map(Number);
  return { ...message, role, address, shape, size: sizeOf(shape), ...kindOf(message.dtype) };
}
