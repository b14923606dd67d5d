// CartPole after Barto, Sutton and Anderson (1983), as Gymnasium's CartPole-v1 computes it:
// https://github.com/Farama-Foundation/Gymnasium/blob/main/gymnasium/envs/classic_control/cartpole.py

import { EXIT, Stop } from './exits.js';
import { Generator } from './random.js';
import { encode } from './tensors.js';

const GRAVITY = 9.8;
const CART_MASS = 1.0;
const POLE_MASS = 0.1;
const TOTAL_MASS = CART_MASS + POLE_MASS;
const HALF_LENGTH = 0.5;
const FORCE = 10.0;
const STEP_SECONDS = 0.02;
const MAX_POSITION = 2.4;
const MAX_ANGLE = (12 * 2 * Math.PI) / 360;
const MAX_STEPS = 500;

const HIGH = Float32Array.of(MAX_POSITION * 2, Infinity, MAX_ANGLE * 2, Infinity);

/** One copy of the environment. */
export class CartPole {
  generator = new Generator();
  state = [0, 0, 0, 0];
  steps = 0;

  /** Begins an episode; a seed begins the copy's randomness anew. */
  reset(seed) {
    if (seed !== undefined) {
      const whole = BigInt(seed);
      this.generator.seed(Number(whole & 0xffffffffn), Number(whole >> 32n), 0);
    }
    this.state = this.state.map(() => 0.1 * this.generator.uniform() - 0.05);
    this.steps = 0;
    return Float32Array.from(this.state);
  }

  /** Pushes the cart left (0) or right (1) for a step. */
  step(action) {
    let [position, velocity, angle, turning] = this.state;
    const force = action === 1 ? FORCE : -FORCE;
    const cos = Math.cos(angle);
    const sin = Math.sin(angle);
    const push = (force + POLE_MASS * HALF_LENGTH * turning ** 2 * sin) / TOTAL_MASS;
    const turningRate =
      (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4 / 3 - (POLE_MASS * cos ** 2) / TOTAL_MASS));
    const acceleration = push - (POLE_MASS * HALF_LENGTH * turningRate * cos) / TOTAL_MASS;
    position += STEP_SECONDS * velocity;
    velocity += STEP_SECONDS * acceleration;
    angle += STEP_SECONDS * turning;
    turning += STEP_SECONDS * turningRate;
    this.state = [position, velocity, angle, turning];
    this.steps += 1;
    const terminated = Math.abs(position) > MAX_POSITION || Math.abs(angle) > MAX_ANGLE;
    return {
      observation: Float32Array.from(this.state),
      reward: 1,
      terminated,
      truncated: this.steps >= MAX_STEPS,
    };
  }
}

const bound = (elements) => encode('DATA_TYPE_FLOAT32', [4], elements);
const space = { box: { low: bound(HIGH.map((most) => -most)), high: bound(HIGH) } };
const group = { agents: [''], observation: space, action: { discrete: { n: 2 } } };

/** The spec of a run's environment and what makes copies of it; one that is not here stops. */
export function environmentOf({ training_environment, evaluation_environment }) {
  for (const { id, wrappers, arguments: given } of [training_environment, evaluation_environment]) {
    const more = [...wrappers, ...Object.keys(given)];
    if (id !== 'CartPole-v1' || more.length) {
      const asked = [id, ...more].join(', ');
      throw new Stop(EXIT.ENVIRONMENT, `this sampler has plain CartPole-v1, and not ${asked}`);
    }
  }
  return { spec: { groups: [group], max_episode_steps: MAX_STEPS }, make: () => new CartPole() };
}
