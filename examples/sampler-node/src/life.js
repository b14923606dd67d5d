// One copy of the environment and where it stands: between two rows of a slot, or of an evaluation.

import { environmentSeed, noiseKey, wordsOf } from './random.js';

/** A slot of a registration: a life with a number. */
export function newSlot({ seed, index, incarnation_base: incarnation }, environment, slot) {
  const address = [seed, index, slot, incarnation];
  const life = new Life(environment.make(), environmentSeed(...address), noiseKey(...address));
  return Object.assign(life, { slot, incarnation });
}

/** A copy that plays the evaluated episode of a seed. */
export function newEvaluation({ seed: run }, environment, seed) {
  return new Life(environment.make(), seed, wordsOf(`wiserl/${run}/evaluation/${seed}/noise`));
}

/** A copy that takes actions. */
export class Life {
  constructor(environment, seed, key) {
    this.environment = environment;
    this.noiseKey = key;
    /** By key, the recurrent states that the next row is fed; absent: the signature's initial ones. */
    this.states = {};
    /** The rows that there were. */
    this.row = 0;
    this.begin(seed);
  }

  begin(seed) {
    this.observation = this.environment.reset(seed);
    this.isFirst = true;
    this.isOver = false;
    this.episodeReturn = 0;
    this.length = 0;
  }

  /**
   * One row: a step, or, where the episode ended in the row before, the reset that takes the row up
   * and ignores the action. Answers what the row's columns hold.
   */
  advance(action) {
    const { isFirst } = this;
    this.row += 1;
    if (this.isOver) {
      this.begin();
      const flags = { terminated: false, truncated: false, ended: false };
      return { isFirst, isValid: false, reward: 0, ...flags };
    }
    const { observation, reward, terminated, truncated } = this.environment.step(action);
    this.observation = observation;
    this.isFirst = false;
    this.isOver = terminated || truncated;
    this.episodeReturn += reward;
    this.length += 1;
    return { isFirst, isValid: true, reward, terminated, truncated, ended: this.isOver };
  }
}
