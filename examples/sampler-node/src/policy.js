// A policy version: its graph, checked and ready to act.

import { createHash } from 'node:crypto';
import { decode, kindOf } from './tensors.js';

// The official builds report to their maker over the network unless told otherwise before they load.
process.env.ORT_DISABLE_TELEMETRY ??= '1';
const { InferenceSession, Tensor } = (await import('onnxruntime-node')).default;

export { Tensor };

const SESSION = {
  executionProviders: ['cpu'],
  executionMode: 'sequential',
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  logSeverityLevel: 3,
};
const RANDOM = /^(Bernoulli|Multinomial|Random(Normal|Uniform)(Like)?)$/;
const EXTERNAL = 1;
const TOLERANCE = 1e-4;

/** One version of the policy. */
export class Policy {
  constructor(version, session) {
    this.version = version;
    this.session = session;
  }

  /**
   * Checks the model of a PullWeightsResponse and makes it a session; runs the golden vector where
   * one came with it.
   */
  static async load(contract, { version, model, model_sha256: announced, golden }) {
    if (!createHash('sha256').update(model).digest().equals(announced)) {
      throw new Error(`${model.length} bytes of version ${version} have another SHA-256 than said`);
    }
    const { graph, functions } = contract.Model.deserialize(model);
    if (functions.length) throw new Error('the model brings functions; export it inlined');
    checkGraph(graph);
    const session = await InferenceSession.create(model, SESSION);
    if (golden?.outputs.length) await verify(session, golden);
    return new Policy(BigInt(version), session);
  }

  /** The named outputs for `feeds`, as typed arrays by name. */
  async run(feeds, names) {
    const answers = await this.session.run(feeds, names);
    return Object.fromEntries(names.map((name) => [name, answers[name].data]));
  }
}

/** Refuses a graph that draws by itself, runs foreign code or reads files. */
export function checkGraph(graph) {
  if (!graph?.node.length) throw new Error('the model has no nodes');
  for (const { op_type: operator, domain } of graph.node) {
    if (domain !== '' && domain !== 'ai.onnx') {
      throw new Error(`the operator ${domain}.${operator} is none of the standard ones`);
    }
    if (RANDOM.test(operator)) {
      throw new Error(`the model draws with ${operator}; randomness comes through noise inputs`);
    }
  }
  const attributes = graph.node.flatMap(({ attribute }) => attribute);
  const sparse = [
    ...graph.sparse_initializer,
    ...attributes.flatMap((one) => [one.sparse_tensor, ...one.sparse_tensors]),
  ];
  const tensors = [
    ...graph.initializer,
    ...attributes.flatMap((one) => [one.t, ...one.tensors]),
    ...sparse.flatMap((one) => [one?.values, one?.indices]),
  ];
  if (tensors.some((one) => one?.external_data.length || one?.data_location === EXTERNAL)) {
    throw new Error('a tensor lies in a file outside the model');
  }
  for (const { g: inner, graphs } of attributes) {
    for (const each of inner ? [inner, ...graphs] : graphs) checkGraph(each);
  }
}

/** Runs a session on a golden vector. */
export async function verify(session, golden) {
  const feeds = Object.fromEntries(
    golden.inputs.map(({ name, tensor }) => [name, toOrt(decode(tensor))]),
  );
  const answers = await session.run(
    feeds,
    golden.outputs.map(({ name }) => name),
  );
  for (const { name, tensor } of golden.outputs) {
    const { shape, elements } = decode(tensor);
    const { dims, data } = answers[name];
    if (String(dims) !== String(shape) || !agree(data, elements)) {
      throw new Error(
        `the output ${name} differs from the golden vector; try another ONNX Runtime`,
      );
    }
  }
}

/** Whether elements are the expected ones: floats within the contract's tolerance, others exactly. */
export function agree(elements, expected) {
  const isFloat = expected instanceof Float32Array || expected instanceof Float64Array;
  return elements.every((x, i) => {
    const y = expected[i];
    if (Object.is(x, y) || x === y) return true;
    return isFloat && Number.isFinite(y) && Math.abs(x - y) <= TOLERANCE + TOLERANCE * Math.abs(y);
  });
}

function toOrt({ dtype, shape, elements }) {
  return new Tensor(kindOf(dtype).ortType, elements, shape);
}
