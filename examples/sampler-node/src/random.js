// Seeds and draws. Every draw is a function of its address alone: run, sampler, slot, version, row.

import { createHash } from 'node:crypto';

/** A text such as `wiserl/7/0/3/65536/noise` as three words of 32 bits. */
export function wordsOf(text) {
  const digest = createHash('sha256').update(text, 'ascii').digest();
  return [digest.readUInt32LE(0), digest.readUInt32LE(4), digest.readUInt32LE(8)];
}

/** What seeds the first reset of an environment copy: RegisterResponse.seed says how. */
export function environmentSeed(seed, index, slot, incarnation) {
  return wordsOf(`wiserl/${seed}/${index}/${slot}/${incarnation}/environment`)[0] & 0x7fffffff;
}

/** The key of the noise of an environment copy. */
export function noiseKey(seed, index, slot, incarnation) {
  return wordsOf(`wiserl/${seed}/${index}/${slot}/${incarnation}/noise`);
}

/** Chris Doty-Humphrey's sfc32 (https://pracrand.sourceforge.net), with its seeding. */
export class Generator {
  /** Begins anew from three words. */
  seed(first, second, third) {
    this.a = first | 0;
    this.b = second | 0;
    this.c = third | 0;
    this.counter = 1;
    for (let i = 0; i < 15; i += 1) this.bits();
    return this;
  }

  /** 32 uniform bits, as a number of [0, 2^32). */
  bits() {
    const drawn = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + drawn) | 0;
    return drawn >>> 0;
  }

  /** A number of [0, 1), of 53 bits. */
  uniform() {
    const high = this.bits() >>> 5;
    return (high * 2 ** 26 + (this.bits() >>> 6)) * 2 ** -53;
  }
}

/** (k + 1/2) 2^-23 with k the upper 23 of 32 bits: exact in float32, never 0 or 1. */
export function openUniform(bits) {
  return ((bits >>> 9) + 0.5) * 2 ** -23;
}

/** Fills `into` from `start` on with `count` draws of a NoiseDistribution. */
export function fillNoise(generator, distribution, into, start, count) {
  const isNormal = distribution === 'NOISE_DISTRIBUTION_STANDARD_NORMAL';
  for (let i = start; i < start + count; i += 1) {
    if (isNormal) {
      // Box and Muller, of which the second number is left unused.
      const radius = Math.sqrt(-2 * Math.log((generator.bits() + 0.5) * 2 ** -32));
      into[i] = radius * Math.cos(2 * Math.PI * generator.bits() * 2 ** -32);
    } else {
      into[i] = openUniform(generator.bits());
    }
  }
}
