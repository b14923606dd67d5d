import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Outbox } from '../src/outbox.js';
import { workOf } from '../src/work.js';

const finite = (fragments, slots) => ({
  grant_id: '10',
  kind: 'collect',
  collect: {
    rows: 4,
    version: '3',
    or_newer: false,
    amount: 'finite',
    finite: { fragments, slots },
  },
});
const windowOf = (fragments) => ({
  grant_id: '11',
  kind: 'collect',
  collect: { rows: 4, version: '3', or_newer: true, amount: 'window', window: { fragments } },
});

test('a finite amount is rolled lap by lap, and what was refused again', () => {
  const work = workOf(finite(5, 3), 4);
  assert.deepEqual([work.take(), work.take(), work.take()], [[0, 1, 2], [0, 1], []]);
  work.giveBack([1]);
  assert.deepEqual(work.take(), [1]);
  assert.deepEqual([work.canUse(2n), work.canUse(3n), work.canUse(4n)], [false, true, false]);
});

test('a window has so many fragments in flight, and its slots take turns', () => {
  const work = workOf(windowOf(3), 4);
  assert.deepEqual([work.take(), work.take()], [[0, 1, 2], []]);
  work.done([0, 1]);
  assert.deepEqual(work.take(), []);
  work.done([2]);
  assert.deepEqual(work.take(), [0, 1, 3]);
  assert.deepEqual([work.canUse(2n), work.canUse(3n), work.canUse(4n)], [false, true, true]);
});

test('of a wide window one half is rolled while the other is pushed', () => {
  const work = workOf(windowOf(8), 4);
  assert.deepEqual([work.take(), work.take(), work.take()], [[0, 1, 2, 3], [0, 1, 2, 3], []]);
  work.update(windowOf(4));
  work.done([0, 1, 2, 3]);
  assert.deepEqual(work.take(), []);
  work.giveBack([0, 1, 2, 3]);
  assert.deepEqual(work.take(), [0, 1, 2, 3]);
});

test('a window of none rolls nothing', () => {
  assert.deepEqual(workOf(windowOf(0), 4).take(), []);
});

test('an evaluation plays every seed once, and again what was refused', () => {
  const grant = (...seeds) => ({
    grant_id: '12',
    kind: 'evaluate',
    evaluate: { evaluation_id: '1', version: '3', seeds },
  });
  const work = workOf(grant('7', '8', '9'), 4);
  assert.deepEqual(work.take(2), ['7', '8']);
  work.update(grant('7', '8', '9', '10'));
  assert.deepEqual(work.take(5), ['9', '10']);
  work.giveBack(['8']);
  assert.deepEqual(work.take(5), ['8']);
});

test('kinds of a later protocol are no work', () => {
  assert.equal(workOf({ grant_id: '1', kind: 'rest' }, 4), null);
  assert.equal(workOf({ grant_id: '1', kind: 'collect', collect: { amount: 'other' } }, 4), null);
});

test('the outbox numbers pushes, and knows what a new registration loses', () => {
  const batch = (...slots) => ({
    rows: 4,
    slots: slots.map((slot) => ({ slot })),
    columns: [],
    episodes: [],
  });
  const outbox = new Outbox(5n);
  const work = {};
  outbox.add(work, batch(0, 1));
  outbox.add(work, batch(2));
  assert.deepEqual([outbox.fragments, outbox.pushing], [3, '0']);
  const first = outbox.next();
  assert.deepEqual([outbox.pushing, outbox.fragments], ['6', 3]);
  // It never left: its sequence is free, and its halves come first.
  outbox.answered({ sent: false });
  assert.ok(outbox.split(first));
  outbox.next();
  assert.deepEqual([outbox.pushing, outbox.fragments], ['6', 3]);
  outbox.answered();
  assert.equal(outbox.split(outbox.next()), false);
  // Counted by the learner or not, what waits behind it is lost.
  assert.equal(outbox.lostAt(7n), 4);
  assert.equal(outbox.lostAt(6n), 4);
});
