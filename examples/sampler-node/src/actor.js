// What a policy is fed for B lives (see life.js): arrays that stay, filled anew for every row.

import { Tensor } from './policy.js';
import { fillNoise, Generator } from './random.js';

/** Feeds policies; `asked` is `signature.collecting` or `signature.evaluating`. */
export class Actor {
  constructor(signature, asked, lives) {
    this.asked = asked;
    this.lives = lives;
    this.generator = new Generator();
    this.inputs = signature.inputs.map((input) => {
      return { ...input, elements: new input.Elements(lives.length * input.size) };
    });
    this.feeds = {};
    for (const { name, ortType, elements, shape } of this.inputs) {
      this.feeds[name] = new Tensor(ortType, elements, [lives.length, ...shape]);
    }
    this.states = asked.states.map(({ name, key }) => {
      const input = this.inputs.find((one) => one.role === 'STATE' && one.key === key);
      if (!input) throw new RangeError(`the signature has no state for the next state ${key}`);
      lives.forEach((life, i) => {
        input.elements.set(life.states[key] ?? input.initial, i * input.size);
      });
      return { key, next: name, size: input.size, elements: input.elements };
    });
  }

  /** Sets the exploration values: those of a key are one, or one for each slot of the sampler. */
  setScalars(scalars, slots) {
    for (const { key, elements, size } of this.inputs.filter(({ role }) => role === 'SCALAR')) {
      const values = scalars.get(key) ?? [];
      slots.forEach((slot, i) => {
        const value = values[values.length === 1 ? 0 : slot];
        if (value === undefined)
          throw new RangeError(`scalar ${key} has no value for slot ${slot}`);
        elements.fill(value, i * size, (i + 1) * size);
      });
    }
  }

  /** The policy's outputs for the coming row of every life, by name. */
  async act(policy) {
    const version = Number(BigInt.asUintN(32, policy.version));
    this.inputs.forEach(({ role, elements, size, noise }, place) => {
      this.lives.forEach((life, i) => {
        if (role === 'OBSERVATION') elements.set(life.observation, i * size);
        if (role === 'RESET') elements[i] = Number(life.isFirst);
        if (role === 'NOISE') {
          const [first, second, third] = life.noiseKey;
          this.generator.seed(first ^ version, second ^ life.row, third ^ place);
          fillNoise(this.generator, noise, elements, i * size, size);
        }
      });
    });
    const answers = await policy.run(this.feeds, this.asked.names);
    for (const { next, elements } of this.states) elements.set(answers[next]);
    return answers;
  }

  /** Leaves with every life the states that its next row is fed. */
  keepStates() {
    for (const { key, elements, size } of this.states) {
      this.lives.forEach((life, i) => {
        life.states[key] = elements.slice(i * size, (i + 1) * size);
      });
    }
  }
}
