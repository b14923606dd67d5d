import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { CartPole, environmentOf } from '../src/cartpole.js';
import { EXIT } from '../src/exits.js';
import { Life } from '../src/life.js';

const episodes = JSON.parse(readFileSync(new URL('../../golden/cartpole.json', import.meta.url)));

test('its transitions are those of Gymnasium', () => {
  for (const { start, actions, observations, terminated } of episodes) {
    const environment = new CartPole();
    environment.reset(0);
    environment.state = start;
    actions.forEach((action, t) => {
      const row = environment.step(action);
      row.observation.forEach((x, i) => {
        assert.ok(Math.abs(x - observations[t][i]) < 1e-6);
      });
      assert.equal(row.reward, 1);
      assert.equal(row.terminated, terminated && t === actions.length - 1);
      assert.equal(row.truncated, false);
    });
  }
});

test('an episode is cut after 500 steps and begins anew in a row of its own', () => {
  const life = new Life(new CartPole(), 3, '', { slot: 0 });
  let last;
  for (let t = 0; t < 500; t += 1) {
    last = life.advance(Number(life.observation[2] + 0.8 * life.observation[3] > 0));
    assert.deepEqual([last.IS_FIRST, last.EPISODE_END], [t === 0, t === 499]);
  }
  assert.deepEqual([last.TRUNCATED, last.TERMINATED], [true, false]);
  assert.deepEqual(life.episode(), { episode_return: 500, length: 500, terminated: false });
  const seen = life.observation;
  assert.deepEqual(life.advance(1), {
    IS_FIRST: false,
    VALID: false,
    REWARD: 0,
    TERMINATED: false,
    TRUNCATED: false,
    EPISODE_END: false,
  });
  assert.notDeepEqual(life.observation, seen);
  assert.equal(life.advance(1).IS_FIRST, true);
  assert.equal(life.row, 502);
});

test('a seed gives the same episodes, another one gives others', () => {
  const starts = (seed) => {
    const environment = new CartPole();
    return [environment.reset(seed), environment.reset(), environment.reset()];
  };
  assert.deepEqual(starts(7), starts('7'));
  assert.notDeepEqual(starts(7), starts(8));
  const [first, second] = starts(7);
  assert.notDeepEqual(first, second);
  assert.ok([...first, ...second].every((x) => Math.abs(x) <= 0.05));
});

const reference = (more) => ({ id: 'CartPole-v1', arguments: {}, wrappers: [], ...more });
const run = (more) => ({
  training_environment: reference(more),
  evaluation_environment: reference({}),
});

test('what it does not have is refused by name', () => {
  assert.ok(environmentOf(run({})).make() instanceof CartPole);
  const refused = (more) => {
    assert.throws(() => environmentOf(run(more)), { exitCode: EXIT.ENVIRONMENT });
  };
  refused({ id: 'Acrobot-v1' });
  refused({ wrappers: ['mine:Wrapper'] });
  refused({ arguments: { gravity: { kind: 'double_value', double_value: 1 } } });
});
