import assert from 'node:assert/strict';
import { test } from 'node:test';
import { environmentSeed, generator, noise, openUniform } from '../src/random.js';
import { decode, encode, kindOf } from '../src/tensors.js';
import { elementsOf, golden } from './golden.js';

for (const example of golden.tensors) {
  // Bits of a float16 are kept, not its values.
  const isHalf = example.dtype === 'float16';
  const dtype = `DATA_TYPE_${example.dtype.toUpperCase()}`;
  const data = Buffer.from(example.bytes, 'hex');

  test(`a tensor of ${example.dtype} is read and written as its bytes`, () => {
    const read = decode({ dtype, shape: example.shape.map(String), data });
    assert.deepEqual(read.shape, example.shape);
    if (!isHalf) assert.deepEqual(read.elements, elementsOf(example));
    assert.deepEqual(encode(dtype, read.shape, read.elements), {
      dtype,
      shape: example.shape,
      data,
    });
  });
}

test('what cannot be a tensor is refused', () => {
  const tensor = (shape, bytes, dtype = 'DATA_TYPE_FLOAT32') => ({
    dtype,
    shape,
    data: Buffer.alloc(bytes, 2),
  });
  assert.throws(() => decode(tensor(['2', '2'], 12)), /12 bytes, but shape \[2,2\].* takes 16/);
  assert.throws(() => decode(tensor(['4294967296', '4294967296'], 0)), /larger than/);
  assert.throws(() => decode(tensor(['0', '4611686018427387904', '4'], 0)), /larger than/);
  assert.throws(() => decode(tensor(['2'], 2, 'DATA_TYPE_BOOL')), /neither 0 nor 1/);
  assert.throws(() => decode(tensor([], 0, 'DATA_TYPE_UNSPECIFIED')), /UNSPECIFIED/);
  assert.throws(() => encode('DATA_TYPE_INT8', [3], new Int8Array(2)), /2 elements/);
  assert.deepEqual(decode(tensor(['0', '3'], 0)).elements, new Float32Array(0));
  assert.equal(decode(tensor([], 4)).elements.length, 1);
});

test('an array that begins at an odd byte is read', () => {
  const data = Buffer.from('ff000020410000', 'hex').subarray(1, 5);
  assert.deepEqual([...decode({ dtype: 'DATA_TYPE_FLOAT32', shape: ['1'], data }).elements], [10]);
});

test('a part of a larger array is written alone', () => {
  const whole = Int16Array.of(1, 2, 3, 4);
  const { data } = encode('DATA_TYPE_INT16', [2], whole.subarray(1, 3));
  assert.equal(data.toString('hex'), '02000300');
  assert.equal(kindOf('DATA_TYPE_BOOL').ortType, 'bool');
});

test('seeds of environments are those of the contract', () => {
  for (const {
    seed,
    index,
    slot,
    incarnation,
    environment_seed: expected,
  } of golden.environment_seeds) {
    assert.equal(environmentSeed(`${seed}/${index}/${slot}/${incarnation}`), expected);
  }
});

test('uniform noise is (k + 1/2) 2^-23 and never 0 or 1 in float32', () => {
  for (const [k, value] of golden.open_uniform) {
    assert.equal(openUniform(k * 2 ** 9), value);
    assert.equal(openUniform(k * 2 ** 9 + 511), value);
    assert.equal(Math.fround(value), value);
  }
});

test('noise has its distribution, and is a function of its address', () => {
  const draw = (distribution, ...address) => {
    return Float32Array.from(noise(distribution, 100_000, generator(...address)));
  };
  const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;
  const normal = draw('NOISE_DISTRIBUTION_STANDARD_NORMAL', 1, 2, 3);
  // Five standard errors of 100,000 draws.
  assert.ok(Math.abs(mean(normal)) < 0.016);
  assert.ok(Math.abs(mean(normal.map((x) => x * x)) - 1) < 0.023);
  assert.ok(Math.abs(mean(normal.map((x) => x ** 4)) - 3) < 0.16);
  const uniform = draw('NOISE_DISTRIBUTION_OPEN_UNIFORM', 1, 2, 3);
  assert.ok(Math.abs(mean(uniform) - 1 / 2) < 0.0046);
  assert.ok(Math.abs(mean(uniform.map((x) => x * x)) - 1 / 3) < 0.0048);
  assert.deepEqual(draw('NOISE_DISTRIBUTION_OPEN_UNIFORM', 1, 2, 3), uniform);
  const next = draw('NOISE_DISTRIBUTION_OPEN_UNIFORM', 1, 3, 3);
  // Streams of neighbouring rows do not go together.
  assert.ok(Math.abs(mean(next.map((x, i) => (x - 0.5) * (uniform[i] - 0.5))) * 12) < 0.016);
});
