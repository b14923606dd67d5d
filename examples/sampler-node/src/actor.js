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
    for (const { name, ortType, elements, shape, role, key, initial } of this.inputs) {
      this.feeds[name] = new Tensor(ortType, elements, [lives.length, ...shape]);
      if (role === 'STATE') {
        this.each(elements, (life) => life.states[key] ?? initial);
      }
    }
  }

  /** Fills an array with an entry for each life. */
  each(elements, entryOf) {
    const size = elements.length / this.lives.length;
    this.lives.forEach((life, i) => {
      elements.set(entryOf(life, i), i * size);
    });
  }

  /** What the coming row is fed as the state of this key. */
  state(key) {
    return this.inputs.find((one) => one.role === 'STATE' && one.key === key).elements;
  }

  /** Sets the exploration values: those of a key are one, or one for each slot of the sampler. */
  setScalars(scalars, slots) {
    for (const { key, elements } of this.inputs.filter(({ role }) => role === 'SCALAR')) {
      const values = scalars.get(key) ?? [];
      this.each(elements, (_, i) => {
        const value = values[values.length === 1 ? 0 : slots[i]];
        if (value === undefined) throw new RangeError(`scalar ${key} lacks slot ${slots[i]}`);
        return [value];
      });
    }
  }

  /** The policy's outputs for the coming row of every life, by name. */
  async act(policy) {
    const version = Number(BigInt.asUintN(32, policy.version));
    this.inputs.forEach(({ role, elements, size, noise }, place) => {
      if (role === 'OBSERVATION') this.each(elements, (life) => life.observation);
      if (role === 'RESET') this.each(elements, (life) => [Number(life.isFirst)]);
      if (role !== 'NOISE') return;
      this.lives.forEach((life, i) => {
        const [first, second, third] = life.noiseKey;
        this.generator.seed(first ^ version, second ^ life.row, third ^ place);
        fillNoise(this.generator, noise, elements, i * size, size);
      });
    });
    const answers = await policy.run(this.feeds, this.asked.names);
    for (const { key, name } of this.asked.states) this.state(key).set(answers[name]);
    return answers;
  }

  /** Leaves with every life the states that its next row is fed. */
  keepStates() {
    for (const { key } of this.asked.states) {
      const elements = this.state(key);
      const size = elements.length / this.lives.length;
      this.lives.forEach((life, i) => {
        life.states[key] = elements.slice(i * size, (i + 1) * size);
      });
    }
  }
}
