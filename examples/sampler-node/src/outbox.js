// What is rolled and not yet answered: batches in order, one in flight, each push with a sequence.

import { split } from './fragment.js';

/** Batches to push. */
export class Outbox {
  /** `sequence` is the last one that was used. */
  constructor(sequence) {
    this.sequence = sequence;
    this.queue = [];
    this.current = null;
  }

  /** How many fragments wait for an answer. */
  get fragments() {
    const waiting = this.queue.reduce((sum, { batch }) => sum + batch.slots.length, 0);
    return waiting + (this.current?.batch.slots.length ?? 0);
  }

  /** The sequence of the push in flight; 0 for none. */
  get pushing() {
    return this.current ? String(this.sequence) : '0';
  }

  add(work, batch) {
    this.queue.push({ work, batch });
  }

  /** Begins the next push: the same sequence is sent until `answered`. Null for none. */
  next() {
    this.current = this.queue.shift() ?? null;
    if (this.current) this.sequence += 1n;
    return this.current;
  }

  /** The push in flight has its final answer; `sent` is false where it never left this process. */
  answered({ sent = true } = {}) {
    if (!sent) this.sequence -= 1n;
    this.current = null;
  }

  /** Puts the halves of a batch that was too large before the others; false where it is one slot's. */
  split({ work, batch }) {
    if (batch.slots.length === 1) return false;
    this.queue.unshift(...split(batch).map((half) => ({ work, batch: half })));
    return true;
  }

  /** Drops what waits and is not to be kept; answers how many rows it was. */
  drop(isDropped) {
    const dropped = this.queue.filter(isDropped);
    this.queue = this.queue.filter((one) => !isDropped(one));
    return dropped.reduce((sum, one) => sum + rowsOf(one), 0);
  }

  /** Rows that a registration after this one finds lost: the learner has pushes up to `last`. */
  lostAt(last) {
    const unanswered = this.current && this.sequence > last ? rowsOf(this.current) : 0;
    return unanswered + this.drop(() => true);
  }
}

function rowsOf({ batch }) {
  return batch.rows * batch.slots.length;
}
