// The golden vectors (examples/golden/), read for the tests.

import { readFileSync } from 'node:fs';
import { kindOf } from '../src/tensors.js';

const FOLDER = new URL('../../golden/', import.meta.url);

export const model = readFileSync(new URL('policy.onnx', FOLDER));
export const golden = JSON.parse(readFileSync(new URL('vectors.json', FOLDER), 'utf8'));

/** An array of the file as a typed array. */
export function elementsOf({ dtype, values }) {
  const { Elements } = kindOf(`DATA_TYPE_${dtype.toUpperCase()}`);
  const isBig = Elements === BigInt64Array || Elements === BigUint64Array;
  return Elements.from(isBig ? values.map(BigInt) : values);
}
