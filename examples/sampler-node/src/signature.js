// The learner's signature, as one agent's sampler reads it: what the graph is fed, what it answers,
// which columns a batch has. Nothing here knows an algorithm.

import { EXIT, Stop } from './exits.js';
import { decode, kindOf, shapeOf, sizeOf } from './tensors.js';

const FED = ['OBSERVATION', 'STATE', 'RESET', 'NOISE', 'SCALAR'];
const ANSWERED = ['ACTION', 'GREEDY_ACTION', 'NEXT_STATE', 'RECORD'];
const RECORDED = ['OBSERVATION', 'STATE', 'ACTION', 'RECORD', 'REWARD', 'TERMINATED', 'TRUNCATED'];
RECORDED.push('IS_FIRST', 'VALID', 'EPISODE_END');

/** The inputs, outputs and columns of a `Signature` message. */
export class Signature {
  /** That of a registration; one that this sampler cannot serve stops it. */
  static of({ signature }) {
    try {
      if (!signature) throw new RangeError('it is absent');
      return new Signature(signature);
    } catch (error) {
      throw new Stop(EXIT.REFUSED, `the learner's signature: ${error.message}`);
    }
  }

  constructor(message) {
    this.inputs = message.inputs.map((one) => entry(one, FED, 'input'));
    this.outputs = message.outputs.map((one) => entry(one, ANSWERED, 'output'));
    this.columns = message.columns.map((one) => entry(one, RECORDED, 'column'));
    const action = this.outputs.find(({ role }) => role === 'ACTION');
    const greedy = this.outputs.find(({ role }) => role === 'GREEDY_ACTION') ?? action;
    if (!action) throw new RangeError('the signature has no action');
    const states = this.outputs.filter(({ role }) => role === 'NEXT_STATE');
    const records = this.columns.filter(({ role }) => role === 'RECORD');
    const names = [action, ...states].map(({ name }) => name);
    names.push(...records.map((column) => this.outputOf(column)));
    /** What to ask of the graph when collecting, and when evaluating. */
    this.collecting = { action, states, names };
    this.evaluating = {
      action: greedy,
      states,
      names: [greedy, ...states].map(({ name }) => name),
    };
  }

  /** The name of the output that a column records. */
  outputOf({ role, key }) {
    const output = this.outputs.find((one) => one.role === role && one.key === key);
    if (!output) throw new RangeError(`nothing fills the column ${role}/${key}`);
    return output.name;
  }
}

function entry(message, roles, what) {
  const role = message.role.replace('ROLE_', '');
  const isNested = role === 'OBSERVATION' && message.key;
  if (message.group || isNested || !roles.includes(role)) {
    const name = [role, message.group, message.key].filter(Boolean).join('/');
    throw new RangeError(`this sampler has one agent that sees one array; no ${what} ${name} here`);
  }
  const shape = shapeOf(message);
  const read = { ...message, role, shape, size: sizeOf(shape), ...kindOf(message.dtype) };
  return role === 'STATE' && what === 'input'
    ? { ...read, initial: decode(message.initial_state).elements }
    : read;
}
