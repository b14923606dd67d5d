// What the learner asks for: its grants, and which slots roll or which seeds are played next.

/** A grant to roll fragments. */
class Collecting {
  constructor(grant) {
    this.id = grant.grant_id;
    /** Nothing more is asked for: it is listed no longer, or the budget is met. */
    this.isOver = false;
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
class Finite extends Collecting {
  constructor(grant, slots) {
    super(grant);
    const { finite } = grant.collect;
    const taking = Math.min(finite.slots, slots);
    this.wanted = Array.from({ length: taking }, (_, slot) => {
      return Math.floor(finite.fragments / taking) + Number(slot < finite.fragments % taking);
    });
  }

  /** The slots that roll next, at most so many; none where there is nothing to roll. */
  take(most) {
    const lap = [...this.wanted.keys()].filter((slot) => this.wanted[slot] > 0).slice(0, most);
    for (const slot of lap) this.wanted[slot] -= 1;
    return lap;
  }

  /** What these slots rolled was refused: they roll it again. */
  giveBack(slots) {
    for (const slot of slots) this.wanted[slot] += 1;
  }
}

/** Fragments without end, so many at once; where there are more slots they take turns. */
class Window extends Collecting {
  constructor(grant, slots) {
    super(grant);
    this.turns = Array.from({ length: slots }, (_, slot) => slot);
  }

  update(grant) {
    super.update(grant);
    this.fragments = grant.collect.window.fragments;
  }

  take(most) {
    const taken = this.turns.splice(0, Math.min(this.fragments, most));
    this.turns.push(...taken);
    return taken.sort((a, b) => a - b);
  }

  /** Nobody waits for just these. */
  giveBack() {}
}

/** A grant to play one greedy episode for each seed, of one version. */
class Evaluating {
  constructor({ grant_id: id, evaluate }) {
    this.id = id;
    this.isOver = false;
    this.evaluationId = evaluate.evaluation_id;
    this.version = BigInt(evaluate.version);
    this.taken = new Set();
  }

  /** A later listing: what is being played or was reported is left out of it. */
  update({ evaluate }) {
    this.seeds = evaluate.seeds.filter((seed) => !this.taken.has(seed));
  }

  take(most) {
    const seeds = this.seeds.splice(0, most);
    for (const seed of seeds) this.taken.add(seed);
    return seeds;
  }

  giveBack(seeds) {
    for (const seed of seeds) this.taken.delete(seed);
    this.seeds.push(...seeds);
  }
}

const KINDS = { evaluate: Evaluating, finite: Finite, window: Window };

/** All grants that the learner listed last, by id. */
export class Grants {
  constructor(slots) {
    this.slots = slots;
    this.all = new Map();
  }

  /** Takes a new list: what is not in it is over. Kinds of a later protocol are left alone. */
  take(listed) {
    const before = this.all;
    this.all = new Map();
    for (const grant of listed) {
      const id = grant.grant_id;
      const Kind = KINDS[grant.collect?.amount ?? grant.kind];
      if (!Kind) continue;
      this.all.set(id, before.get(id) ?? new Kind(grant, this.slots));
      this.all.get(id).update(grant);
    }
    for (const [id, grant] of before) grant.isOver ||= !this.all.has(id);
  }

  /** What this version may roll now, as grant and slots; `most` says how many with so many rows. */
  toRoll(version, most) {
    for (const grant of this.all.values()) {
      if (!grant.isOver && grant instanceof Collecting && grant.canUse(version)) {
        const slots = grant.take(most(grant.rows));
        if (slots.length) return { grant, slots };
      }
    }
    return null;
  }

  /** The evaluation that has seeds to play. */
  toPlay() {
    return [...this.all.values()].find(({ isOver, seeds }) => !isOver && seeds?.length);
  }

  /** A version is kept no longer: its evaluation is complete. */
  forget(version) {
    for (const grant of this.all.values()) {
      if (grant instanceof Evaluating && grant.version === version) grant.isOver = true;
    }
  }
}
