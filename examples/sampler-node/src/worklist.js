// All grants of a sampler at once: what to roll and what to play next.

import { Evaluation, workOf } from './work.js';

/** The works of the grants that the learner listed last, by grant id. */
export class Worklist {
  constructor(slots) {
    this.slots = slots;
    this.works = new Map();
  }

  /** Takes the list of all grants; answers the works that are not in it any more, which are over. */
  take(grants) {
    const listed = new Set(grants.map((grant) => grant.grant_id));
    const over = [...this.works.values()].filter(({ grantId }) => !listed.has(grantId));
    for (const work of over) {
      work.isOver = true;
      this.works.delete(work.grantId);
    }
    for (const grant of grants) {
      const known = this.works.get(grant.grant_id);
      const work = known ?? workOf(grant, this.slots);
      if (known) known.update(grant);
      else if (work) this.works.set(work.grantId, work);
    }
    return over;
  }

  /** A work that may roll with this version, and its slots that roll now; null where there is none. */
  takeFragments(version) {
    for (const work of this.works.values()) {
      const isWanted = !work.isOver && work.canUse?.(version);
      const numbers = isWanted ? work.take() : [];
      if (numbers.length) return { work, numbers };
    }
    return null;
  }

  /** The evaluation that has seeds to play. */
  toPlay() {
    return [...this.works.values()].find(
      (work) => work instanceof Evaluation && !work.isOver && work.pending.length,
    );
  }

  /** A version is not kept any more: its evaluation is complete. */
  forget(version) {
    for (const work of this.works.values()) {
      if (work instanceof Evaluation && work.version === version) work.isOver = true;
    }
  }
}
