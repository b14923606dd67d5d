// One copy of the environment and where it stands between two rows.
// docs/writing-a-sampler.md: "Rows", "States" and "Registering".

import { environmentSeed, noiseKey } from './random.js';

/** A slot of a registration. */
export function newSlot({ seed, index, incarnation_base: incarnation }, environment, slot) {
  const address = `${seed}/${index}/${slot}/${incarnation}`;
  return new Life(environment.make(), environmentSeed(address), address, { slot, incarnation });
}

/** A copy that plays the evaluated episode of a seed. */
export function newEvaluation({ seed: run }, environment, seed) {
  return new Life(environment.make(), seed, `${run}/evaluation/${seed}`, { slot: 0 });
}

/** A copy that takes actions; `address` is that of its noise. */
export class Life {
  constructor(environment, seed, address, { slot, incarnation }) {
    this.environment = environment;
    this.noiseKey = noiseKey(address);
    this.slot = slot;
    this.incarnation = incarnation;
    /** By key, the states that the next row is fed; where one is absent, its initial value. */
    this.states = {};
    /** The rows that there were. */
    this.row = 0;
    this.begin(seed);
  }

  /**
   * One row: a step, or, where the episode ended in the row before, the reset that takes the row up
   * and ignores the action. Answers what the row's columns hold, by role.
   */
  advance(action) {
    const { isFirst, isOver } = this;
    const { reward, terminated, truncated } = isOver ? this.begin() : this.step(action);
    this.row += 1;
    return {
      IS_FIRST: isFirst,
      VALID: !isOver,
      REWARD: reward,
      TERMINATED: terminated,
      TRUNCATED: truncated,
      EPISODE_END: terminated || truncated,
    };
  }

  begin(seed) {
    this.observation = this.environment.reset(seed);
    this.isFirst = true;
    this.isOver = false;
    this.episodeReturn = 0;
    this.length = 0;
    return { reward: 0, terminated: false, truncated: false };
  }

  step(action) {
    const { observation, reward, terminated, truncated } = this.environment.step(action);
    this.observation = observation;
    this.isFirst = false;
    this.isOver = terminated || truncated;
    this.terminated = terminated;
    this.episodeReturn += reward;
    this.length += 1;
    return { reward, terminated, truncated };
  }

  /** The episode that the last row ended. */
  episode() {
    const { episodeReturn, length, terminated } = this;
    return { episode_return: episodeReturn, length, terminated };
  }
}
