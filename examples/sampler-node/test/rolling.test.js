import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { Model, wire } from '../src/contract.js';
import { EXIT } from '../src/exits.js';
import { Life } from '../src/life.js';
import { agree, sessionOf, Tensor } from '../src/policies.js';
import { rollFragments } from '../src/rolling.js';
import { readSignature } from '../src/signature.js';
import { decode, kindOf } from '../src/tensors.js';
import { elementsOf, golden, model } from './golden.js';

const { rows, slots, push } = golden.fragment;
const response = { version: '7', model, model_sha256: createHash('sha256').update(model).digest() };
const Push = wire['wiserl.v1.PushTrajectoriesRequest'];
const registration = Buffer.from(golden.registration, 'base64');
const { signature: message } = wire['wiserl.v1.RegisterResponse'].deserialize(registration);
const signature = readSignature(message);
const expected = Push.deserialize(Buffer.from(push, 'base64')).batch;
const initial = elementsOf(rows[0].inputs['state/memory']);

/** What the environment of slot `place` answers, as the file says. */
class Tape {
  constructor(place) {
    this.place = place;
    this.t = 0;
  }

  at(name, t) {
    const { shape, values } =
      name === 'seen' ? rows[t].inputs.observation : rows[t].environment[name];
    const size = shape.length > 1 ? shape[1] : 1;
    const found = values.slice(this.place * size, (this.place + 1) * size);
    return shape.length > 1 ? found : found[0];
  }

  reset() {
    // The reset that begins a life comes before its first row, any other one is a row.
    return this.t === 0 && !this.begun ? this.at('seen', 0) : this.at('observation', this.t++);
  }

  step() {
    this.begun = true;
    const t = this.t++;
    const of = (name) => this.at(name, t);
    return {
      observation: of('observation'),
      reward: of('reward'),
      terminated: of('terminated'),
      truncated: of('truncated'),
    };
  }
}

function lives() {
  return slots.map(({ slot, incarnation, first_row: row, episode_length: length }, place) => {
    const life = new Life(new Tape(place), 0, '', { slot, incarnation });
    const half = initial.length / slots.length;
    const memory = initial.slice(place * half, (place + 1) * half);
    const isFirst = row === 0;
    const states = isFirst ? {} : { memory };
    return Object.assign(life, { row, length, isFirst, states });
  });
}

/** The policy with the noise of the file in place of what was drawn. */
async function rehearsed() {
  const session = await sessionOf(response);
  let t = 0;
  const run = (feeds, names) => {
    feeds.noise.data.set(elementsOf(rows[t].inputs.noise));
    t += 1;
    return session.run(feeds, names);
  };
  return { version: 7, session: { run } };
}

async function rolled(isWanted = () => true) {
  const progress = { rows_rolled: 0, rows_dropped: 0 };
  const taking = lives();
  const task = { signature, lives: taking, scalars: new Map(), progress, isWanted };
  const batch = await rollFragments({ ...task, policy: await rehearsed() }, rows.length);
  return { batch, progress, slots: taking };
}

test('every call of the policy is answered as the file says', async () => {
  const session = await sessionOf(response);
  for (const { inputs, outputs } of rows) {
    const tensors = Object.entries(inputs).map(([name, input]) => {
      const { ortType } = kindOf(`DATA_TYPE_${input.dtype.toUpperCase()}`);
      return [name, new Tensor(ortType, elementsOf(input), input.shape)];
    });
    const names = Object.keys(outputs);
    const answers = await session.run(Object.fromEntries(tensors), names);
    for (const name of names) assert.ok(agree(answers[name].data, elementsOf(outputs[name])), name);
  }
});

test('a fragment becomes the push of the file', async () => {
  const { batch, progress } = await rolled();
  assert.equal(progress.rows_rolled, rows.length * slots.length);
  // Through the wire, so that both are as a reader has them.
  const sent = Push.deserialize(Push.serialize({ batch })).batch;
  const { columns, ...rest } = sent;
  const { columns: wanted, ...others } = expected;
  assert.deepEqual(rest, others);
  const addresses = (all) => all.map(({ role, group, key }) => [role, group, key]);
  assert.deepEqual(addresses(columns), addresses(wanted));
  columns.forEach(({ role, tensor }, i) => {
    const found = decode(tensor);
    const other = decode(wanted[i].tensor);
    assert.deepEqual([found.dtype, found.shape], [other.dtype, other.shape], role);
    assert.ok(agree(found.elements, other.elements), role);
  });
});

test('a push has room for as many slots as its limit says', () => {
  const bytes = expected.columns.reduce((sum, { tensor }) => sum + tensor.data.length, 0);
  const fragment = bytes / slots.length;
  assert.equal(signature.slotsPerPush(rows.length, 4096 + 3 * fragment), 3);
  assert.equal(signature.slotsPerPush(rows.length, 4096 + 3 * fragment - 1), 2);
  assert.equal(signature.slotsPerPush(rows.length, 1), 1);
  // What is left for all but the elements suffices for the whole message.
  const sent = Buffer.from(push, 'base64').length;
  assert.ok(sent <= 4096 + bytes);
});

test('what nobody wants any more is dropped, and the slots go on after a gap', async () => {
  let asked = 0;
  const isWanted = () => {
    asked += 1;
    return asked <= 4;
  };
  const { batch, progress, slots: after } = await rolled(isWanted);
  assert.equal(batch, null);
  assert.deepEqual([progress.rows_rolled, progress.rows_dropped], [8, 8]);
  assert.deepEqual(
    after.map(({ row }) => row),
    [4, 16],
  );
  const memory = elementsOf(rows[4].inputs['state/memory']);
  assert.ok(agree(after[0].states.memory, memory.slice(0, memory.length / 2)));
});

test('a model that is damaged, draws, runs foreign code or reads files is refused', async () => {
  const damaged = { ...response, model: Buffer.concat([model, Buffer.of(0)]) };
  await assert.rejects(sessionOf(damaged), /SHA-256/);
  await assert.rejects(sessionOf({ ...response, model: undefined }), /without its model/);
  const refused = (graph) => {
    const bytes = Model.serialize({ graph });
    const digest = createHash('sha256').update(bytes).digest();
    return sessionOf({ version: '1', model: bytes, model_sha256: digest });
  };
  await assert.rejects(refused({ node: [{ op_type: 'RandomUniformLike' }] }), /draws/);
  await assert.rejects(
    refused({ node: [{ op_type: 'Gemm', domain: 'com.acme' }] }),
    /com.acme.Gemm/,
  );
  const branch = { op_type: 'If', attribute: [{ g: { node: [{ op_type: 'Bernoulli' }] } }] };
  await assert.rejects(refused({ node: [branch] }), /Bernoulli/);
  const outside = { node: [{ op_type: 'Add' }], initializer: [{ data_location: 1 }] };
  await assert.rejects(refused(outside), /outside the model/);
});

test('a golden vector that differs refuses the model', async () => {
  const tensor = ({ dtype, shape, values }) => {
    const elements = elementsOf({ dtype, values });
    const data = Buffer.from(elements.buffer);
    return { dtype: `DATA_TYPE_${dtype.toUpperCase()}`, shape, data };
  };
  const named = (all) => Object.entries(all).map(([name, one]) => ({ name, tensor: tensor(one) }));
  const { inputs, outputs } = rows[0];
  const vector = { inputs: named(inputs), outputs: named(outputs) };
  await sessionOf({ ...response, golden: vector });
  vector.outputs.find(({ name }) => name === 'action').tensor.data[0] ^= 1;
  await assert.rejects(sessionOf({ ...response, golden: vector }), /action differs/);
});

test('a signature that names what nobody here can fill is refused by name', () => {
  const refused = (change, why) => {
    const wanted = { exitCode: EXIT.REFUSED, message: why };
    assert.throws(() => readSignature({ ...message, ...change }), wanted);
  };
  const [input] = message.inputs;
  refused({ inputs: [{ ...input, role: 'ROLE_ACTION_MASK' }] }, /ACTION_MASK\/\//);
  refused({ inputs: [{ ...input, key: 'camera' }] }, /OBSERVATION\/\/camera/);
  refused({ inputs: [{ ...input, group: 'red' }] }, /OBSERVATION\/red\//);
  refused({ columns: [{ ...message.columns[0], role: 'ROLE_RECORD', key: 'x' }] }, /RECORD\/\/x/);
  refused({ outputs: [] }, /RECORD\/\/log_prob|ACTION/);
});
