// CartPole after Barto, Sutton and Anderson (1983), as Gymnasium's CartPole-v1 computes it
// (https://gymnasium.farama.org/environments/classic_control/cart_pole/).
// docs/writing-a-sampler.md: "Registering".

import { EXIT, Stop } from './exits.js';
import { generator } from './random.js';
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

/** One copy of the environment. */
export class CartPole {
  /** Begins an episode; a seed begins the copy's randomness anew. */
  reset(seed) {
    if (seed !== undefined) {
      const [low, high] = new Uint32Array(BigUint64Array.of(BigInt(seed)).buffer);
      this.draw = generator(low, high, 0);
    }
    this.state = Array.from({ length: 4 }, () => 0.1 * this.draw() * 2 ** -32 - 0.05);
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
    return {
      observation: Float32Array.from(this.state),
      reward: 1,
      terminated: Math.abs(position) > MAX_POSITION || Math.abs(angle) > MAX_ANGLE,
      truncated: this.steps >= MAX_STEPS,
    };
  }
}

const HIGH = Float32Array.of(MAX_POSITION * 2, Infinity, MAX_ANGLE * 2, Infinity);
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
