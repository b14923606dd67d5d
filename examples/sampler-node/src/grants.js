// What the learner asks for: which slots roll next, and which seeds are played.
// docs/writing-a-sampler.md: "Grants".

/** A grant, with what of it is left to do. */
class Grant {
  constructor({ grant_id: id, collect, evaluate }, slots) {
    this.id = id;
    /** Nothing more is asked for: it is listed no longer, or the budget is met. */
    this.isOver = false;
    this.collects = Boolean(collect);
    this.evaluationId = evaluate?.evaluation_id;
    this.isWindow = collect?.amount === 'window';
    /** The slots that roll, once for each fragment; of a window, whose turn it is. Or the seeds. */
    this.queue = evaluate ? [...evaluate.seeds] : laps(collect, slots);
  }

  /** Takes what a later list may say anew of the same work. */
  update({ collect, evaluate }) {
    this.version = Number((collect ?? evaluate).version);
    this.orNewer = collect?.or_newer ?? false;
    this.rows = collect?.rows;
    this.most = collect?.window?.fragments ?? Infinity;
  }

  canUse(version) {
    return version === this.version || (this.orNewer && version > this.version);
  }

  /** The slots or seeds that come next, each one once and at most so many. */
  take(most) {
    const next = [...new Set(this.queue)].slice(0, Math.min(this.most, most));
    for (const one of next) this.queue.splice(this.queue.indexOf(one), 1);
    if (this.isWindow) this.queue.push(...next);
    return next;
  }

  /** What came of these was refused: they are done again. For a window any others do as well. */
  giveBack(taken) {
    if (!this.isWindow) this.queue.unshift(...taken);
  }
}

/** The slots of so many fragments, one lap over the slots after the other; of a window, one lap. */
function laps({ finite }, slots) {
  const taking = Math.min(finite?.slots ?? slots, slots);
  return Array.from({ length: finite?.fragments ?? slots }, (_, fragment) => fragment % taking);
}

const KNOWN = ['evaluate', 'finite', 'window'];

/** All grants that the learner listed last, by id. */
export class Grants {
  all = new Map();

  constructor(slots) {
    this.slots = slots;
  }

  /** Takes a new list: what is not in it is over. Kinds of a later protocol are left alone. */
  take(listed) {
    const before = this.all;
    this.all = new Map();
    for (const listing of listed) {
      if (!KNOWN.includes(listing.collect?.amount ?? listing.kind)) continue;
      const grant = before.get(listing.grant_id) ?? new Grant(listing, this.slots);
      grant.update(listing);
      this.all.set(grant.id, grant);
    }
    for (const [id, grant] of before) grant.isOver ||= !this.all.has(id);
  }

  /** What this version may roll now, as grant and slots; `most` says how many with so many rows. */
  toRoll(version, most) {
    for (const grant of this.all.values()) {
      if (!grant.collects || grant.isOver || !grant.canUse(version)) continue;
      const slots = grant.take(most(grant.rows));
      if (slots.length) return { grant, slots };
    }
    return null;
  }

  /** The evaluation that has seeds to play. */
  toPlay() {
    const grants = [...this.all.values()];
    return grants.find(({ collects, isOver, queue }) => !collects && !isOver && queue.length);
  }

  /** A version is kept no longer: its evaluation is complete. */
  forget(version) {
    for (const grant of this.all.values()) {
      if (!grant.collects && grant.version === version) grant.isOver = true;
    }
  }
}
