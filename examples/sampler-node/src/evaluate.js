// Plays evaluations: one episode with greedy actions for each seed, in copies of their own.

import { Actor } from './actor.js';
import { actionOf, episodeOf } from './fragment.js';
import { Life } from './life.js';
import { wordsOf } from './random.js';

/**
 * Plays one episode for each seed, all at once, and answers `EvaluatedEpisode` messages; null where
 * `isWanted()` said that nobody wants them any more.
 */
export async function play({
  policy,
  signature,
  make,
  seeds,
  runSeed,
  scalars,
  progress,
  isWanted,
}) {
  const lives = seeds.map((seed) => {
    return new Life(make(), seed, wordsOf(`wiserl/${runSeed}/evaluation/${seed}/noise`));
  });
  const actor = new Actor(signature, signature.evaluating, lives);
  // An evaluation belongs to no slot: where each slot has a value, that of the first one is fed.
  actor.setScalars(
    scalars,
    seeds.map(() => 0),
  );
  const { name, size } = signature.evaluating.action;
  const episodes = new Map();
  while (episodes.size < seeds.length) {
    if (!isWanted()) return null;
    const answers = await actor.act(policy);
    lives.forEach((life, i) => {
      if (episodes.has(seeds[i])) return;
      const row = life.advance(actionOf(answers[name], i, size));
      progress.rows_rolled += 1;
      if (row.ended) episodes.set(seeds[i], episodeOf(life, row));
    });
  }
  return seeds.map((seed) => ({ seed, episode: episodes.get(seed) }));
}
