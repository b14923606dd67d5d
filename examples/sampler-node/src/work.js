// The grants as a sampler works through them: which slots roll next, which seeds are still to be played.

/** The work of a grant, or null for a kind that this protocol version does not have. */
export function workOf(grant, slots) {
  if (grant.kind === 'evaluate') return new Evaluation(grant);
  if (grant.kind === 'collect' && grant.collect.amount === 'finite')
    return new Finite(grant, slots);
  if (grant.kind === 'collect' && grant.collect.amount === 'window')
    return new Window(grant, slots);
  return null;
}

class Collecting {
  constructor(grant, slots) {
    this.grantId = grant.grant_id;
    this.slots = slots;
    /** Nothing more is asked for: the grant is not listed any more, or the budget is met. */
    this.isOver = false;
    this.update(grant);
  }

  update({ collect }) {
    this.rows = collect.rows;
    this.version = BigInt(collect.version);
    this.orNewer = collect.or_newer;
  }

  canUse(version) {
    return version === this.version || (this.orNewer && version > this.version);
  }
}

/** So many fragments of the slots 0 to `slots` - 1, one lap over the slots after the other. */
export class Finite extends Collecting {
  constructor(grant, slots) {
    super(grant, slots);
    const { fragments, slots: wanted } = grant.collect.finite;
    const taking = Math.min(wanted, slots);
    this.wanted = Array.from({ length: taking }, (_, slot) => {
      return Math.floor(fragments / taking) + Number(slot < fragments % taking);
    });
  }

  /** The slots of the next fragments; none where there are none. */
  take() {
    const lap = [...this.wanted.keys()].filter((slot) => this.wanted[slot] > 0);
    for (const slot of lap) this.wanted[slot] -= 1;
    return lap;
  }

  /** These have their final answer: they were counted when they were taken. */
  done() {}

  /** These were refused: they are rolled again, under the same grant. */
  giveBack(slots) {
    for (const slot of slots) this.wanted[slot] += 1;
  }
}

/** Fragments without end, so many of them in flight at once; the slots take turns. */
export class Window extends Collecting {
  constructor(grant, slots) {
    super(grant, slots);
    this.inFlight = 0;
    this.turns = Array.from({ length: slots }, (_, slot) => slot);
  }

  update(grant) {
    super.update(grant);
    this.fragments = grant.collect.window.fragments;
  }

  /** Half of the window at most, so that one half is rolled while the other is pushed. */
  take() {
    const { fragments, slots } = this;
    const size = fragments <= slots ? fragments : Math.min(slots, Math.floor(fragments / 2));
    if (this.inFlight + size > fragments) return [];
    const taken = this.turns.splice(0, size);
    this.turns.push(...taken);
    this.inFlight += size;
    return taken.sort((a, b) => a - b);
  }

  done(slots) {
    this.inFlight -= slots.length;
  }

  /** Nobody waits for just these: there is room for others. */
  giveBack(slots) {
    this.done(slots);
  }
}

/** One greedy episode for each seed of one version. */
export class Evaluation {
  constructor(grant) {
    this.grantId = grant.grant_id;
    this.evaluationId = grant.evaluate.evaluation_id;
    this.version = BigInt(grant.evaluate.version);
    this.isOver = false;
    this.out = new Set();
    this.update(grant);
  }

  /** A later listing: what is being played or was reported is left out of it. */
  update({ evaluate }) {
    this.pending = evaluate.seeds.filter((seed) => !this.out.has(seed));
  }

  take(count) {
    const seeds = this.pending.splice(0, count);
    for (const seed of seeds) this.out.add(seed);
    return seeds;
  }

  giveBack(seeds) {
    for (const seed of seeds) this.out.delete(seed);
    this.pending.push(...seeds);
  }
}
