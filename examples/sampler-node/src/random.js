// Draws, each a function of its address alone: run, slot, incarnation, version, row, input.
// docs/writing-a-sampler.md: "Seeds" and "Noise".

import { createHash } from 'node:crypto';

/** What seeds the first reset of the copy at `<seed>/<index>/<slot>/<incarnation>`. */
export function environmentSeed(address) {
  return wordsOf(`wiserl/${address}/environment`)[0] & 0x7fffffff;
}

/** The three words that the noise of a copy begins with. */
export function noiseKey(address) {
  return wordsOf(`wiserl/${address}/noise`);
}

function wordsOf(text) {
  const digest = createHash('sha256').update(text, 'ascii').digest();
  return [digest.readUInt32LE(0), digest.readUInt32LE(4), digest.readUInt32LE(8)];
}

/** A function that draws 32 uniform bits: sfc32 of PractRand (https://pracrand.sourceforge.net). */
export function generator(a, b, c) {
  let counter = 1;
  const draw = () => {
    const drawn = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + drawn) | 0;
    return drawn >>> 0;
  };
  for (let i = 0; i < 15; i += 1) draw();
  return draw;
}

/** (k + 1/2) 2^-23 with k the upper 23 of 32 bits: exact in float32, never 0 or 1. */
export function openUniform(bits) {
  return ((bits >>> 9) + 0.5) * 2 ** -23;
}

/** A draw of mean 0 and deviation 1, after Box and Muller, whose second number is left unused. */
export function standardNormal(draw) {
  const radius = Math.sqrt(-2 * Math.log((draw() + 0.5) * 2 ** -32));
  return radius * Math.cos(2 * Math.PI * draw() * 2 ** -32);
}

/** So many draws of a NoiseDistribution. */
export function noise(distribution, count, draw) {
  const drawn = new Float32Array(count);
  const isNormal = distribution === 'NOISE_DISTRIBUTION_STANDARD_NORMAL';
  for (let i = 0; i < count; i += 1) {
    drawn[i] = isNormal ? standardNormal(draw) : openUniform(draw());
  }
  return drawn;
}
