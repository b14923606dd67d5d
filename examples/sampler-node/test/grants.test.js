import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Grants } from '../src/grants.js';

const collect = (id, more) => ({
  grant_id: id,
  kind: 'collect',
  collect: { rows: 4, version: '3', ...more },
});
const finite = (fragments, slots) =>
  collect('10', { or_newer: false, amount: 'finite', finite: { fragments, slots } });
const windowOf = (fragments) =>
  collect('11', { or_newer: true, amount: 'window', window: { fragments } });
const evaluation = (...seeds) => ({
  grant_id: '12',
  kind: 'evaluate',
  evaluate: { evaluation_id: '1', version: '3', seeds },
});

function granted(...listed) {
  const grants = new Grants(4);
  grants.take(listed);
  const roll = (version = 3, most = 9) => grants.toRoll(version, () => most)?.slots;
  return { grants, roll };
}

test('a finite amount is rolled lap by lap, and what was refused again', () => {
  const { grants, roll } = granted(finite(5, 3));
  assert.deepEqual([roll(2), roll(4)], [undefined, undefined]);
  assert.deepEqual([roll(), roll(), roll()], [[0, 1, 2], [0, 1], undefined]);
  grants.all.get('10').giveBack([1]);
  assert.deepEqual(roll(), [1]);
});

test('no more slots go together than have room in a push', () => {
  const { roll } = granted(finite(4, 4));
  assert.deepEqual([roll(3, 3), roll(3, 3)], [[0, 1, 2], [3]]);
});

test('a window has so many in flight of any newer version, and its slots take turns', () => {
  const { grants, roll } = granted(windowOf(3));
  assert.equal(roll(2), undefined);
  assert.deepEqual(
    [roll(3), roll(4)],
    [
      [0, 1, 2],
      [3, 0, 1],
    ],
  );
  grants.take([windowOf(9)]);
  assert.deepEqual(roll(), [2, 3, 0, 1]);
  grants.take([windowOf(0)]);
  assert.equal(roll(), undefined);
});

test('an evaluation plays every seed once, and again what was refused', () => {
  const { grants } = granted(evaluation('7', '8', '9'));
  const grant = grants.toPlay();
  assert.deepEqual(grant.take(2), ['7', '8']);
  grants.take([evaluation('7', '8', '9')]);
  assert.deepEqual(grant.take(5), ['9']);
  assert.equal(grants.toPlay(), undefined);
  grant.giveBack(['8']);
  assert.deepEqual(grants.toPlay().take(5), ['8']);
  grant.giveBack(['8']);
  grants.forget(3);
  assert.equal(grants.toPlay(), undefined);
});

test('what is listed no longer is over', () => {
  const { grants, roll } = granted(finite(5, 3), windowOf(2));
  const [first, second] = grants.all.values();
  grants.take([windowOf(2)]);
  assert.deepEqual([first.isOver, second.isOver], [true, false]);
  assert.deepEqual(roll(), [0, 1]);
});

test('kinds of a later protocol are left alone', () => {
  const { grants, roll } = granted(
    { grant_id: '1', kind: 'rest' },
    collect('2', { amount: 'other' }),
  );
  assert.deepEqual([grants.all.size, roll()], [0, undefined]);
});
