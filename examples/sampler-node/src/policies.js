// The policies that pulls bring: checked, made ready to act, and kept while they are wanted.
// docs/writing-a-sampler.md: "Models" and "Pulls".

import { createHash } from 'node:crypto';
import { Model } from './contract.js';
import { decode, kindOf } from './tensors.js';

// The official builds report to their maker unless they are told not to before they are loaded.
process.env.ORT_DISABLE_TELEMETRY ??= '1';
const { InferenceSession, Tensor } = (await import('onnxruntime-node')).default;

export { Tensor };

const SESSION = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 };
const RANDOM = /^(Bernoulli|Multinomial|Random(Normal|Uniform)(Like)?)$/;
const EXTERNAL = 1;
const TOLERANCE = 1e-4;

/** The newest policy, which collects, and the one that evaluates: version, SHA-256 and session. */
export class Policies {
  newest = null;
  evaluating = null;
  /** Exploration values by key. */
  scalars = new Map();
  scalarsVersion = '0';

  /** The policy of a version, where it is at hand. */
  of(version) {
    return [this.newest, this.evaluating].find((policy) => policy?.version === version);
  }

  /**
   * Takes what a pull brought, which named the version `asked` (0 for the newest). A model that is
   * damaged, or none that a sampler runs, is thrown, and its version not taken.
   */
  async take(answer, asked) {
    if (answer.scalars_version !== this.scalarsVersion) {
      this.scalars = new Map(answer.scalars.map(({ key, values }) => [key, values]));
      this.scalarsVersion = answer.scalars_version;
    }
    const version = Number(answer.version);
    if (asked && version === asked) {
      this.evaluating = await this.policyOf(version, answer);
    } else if (version > (this.newest?.version ?? 0)) {
      this.newest = await this.policyOf(version, answer);
    }
  }

  async policyOf(version, answer) {
    // Two versions may have the same model, which then comes once.
    const isKnown = !answer.model && this.newest?.sha256.equals(answer.model_sha256);
    const session = isKnown ? this.newest.session : await sessionOf(answer);
    return { version, sha256: answer.model_sha256, session };
  }
}

/** A session for the model of a PullWeightsResponse, once it is found to be what it should be. */
export async function sessionOf({ version, model, model_sha256: announced, golden }) {
  if (!model) throw new Error(`version ${version} came without its model, which is not at hand`);
  if (!createHash('sha256').update(model).digest().equals(announced)) {
    throw new Error(`${model.length} bytes of version ${version} have another SHA-256 than said`);
  }
  const { graph, functions } = Model.deserialize(model);
  if (!graph?.node.length) throw new Error('the model has no nodes');
  if (functions.length) throw new Error('the model brings functions; export it inlined');
  check(graph);
  const session = await InferenceSession.create(model, SESSION);
  if (golden?.outputs.length) await verify(session, golden);
  return session;
}

/** Refuses a part of a graph, and all within it, that draws, runs foreign code or reads files. */
function check(part) {
  const { op_type: operator, domain } = part;
  if (operator !== undefined && !['', 'ai.onnx'].includes(domain)) {
    throw new Error(`the operator ${domain}.${operator} is none of the standard ones`);
  }
  if (RANDOM.test(operator)) {
    throw new Error(`the model draws with ${operator}; randomness comes through noise inputs`);
  }
  if (part.external_data?.length || part.data_location === EXTERNAL) {
    throw new Error('a tensor lies in a file outside the model');
  }
  for (const inner of Object.values(part)) {
    if (inner && typeof inner === 'object') check(inner);
  }
}

/** Runs a session on a golden vector. */
async function verify(session, { inputs, outputs }) {
  const feeds = {};
  for (const { name, tensor } of inputs) {
    const { dtype, shape, elements } = decode(tensor);
    feeds[name] = new Tensor(kindOf(dtype).ortType, elements, shape);
  }
  const names = outputs.map(({ name }) => name);
  const answers = await session.run(feeds, names);
  for (const { name, tensor } of outputs) {
    const { shape, elements } = decode(tensor);
    const { dims, data } = answers[name];
    if (String(dims) !== String(shape) || !agree(data, elements)) {
      const remedy = 'try another ONNX Runtime';
      throw new Error(`the output ${name} differs from the golden vector; ${remedy}`);
    }
  }
}

/** Whether elements are those expected: floats within the contract's tolerance, others exactly. */
export function agree(elements, expected) {
  const isFloat = expected instanceof Float32Array || expected instanceof Float64Array;
  return elements.every((x, i) => {
    const y = expected[i];
    if (Object.is(x, y) || x === y) return true;
    return isFloat && Number.isFinite(y) && Math.abs(x - y) <= TOLERANCE + TOLERANCE * Math.abs(y);
  });
}
