// What this sampler can build: the registry that an EnvironmentReference is looked up in.

import { CartPole } from './cartpole.js';
import { EXIT, Stop } from './exits.js';

/** The spec of a run's environment, and what makes copies of it for training and for evaluation. */
export function build({ training_environment: training, evaluation_environment: evaluation }) {
  return { spec: CartPole.spec, make: maker(training), makeForEvaluation: maker(evaluation) };
}

function maker(reference) {
  if (reference.id !== 'CartPole-v1') {
    throw unsupported(`the environment ${reference.id} is not there; this sampler has CartPole-v1`);
  }
  if (reference.wrappers.length) {
    throw unsupported(`it has no wrappers, and ${reference.wrappers} was asked for`);
  }
  const options = {};
  for (const [name, value] of Object.entries(reference.arguments)) {
    if (name !== 'sutton_barto_reward' || value.kind !== 'bool_value') {
      throw unsupported(`CartPole-v1 takes the bool sutton_barto_reward alone, not ${name}`);
    }
    options.suttonBartoReward = value.bool_value;
  }
  return () => new CartPole(options);
}

function unsupported(message) {
  return new Stop(EXIT.ENVIRONMENT, message);
}
