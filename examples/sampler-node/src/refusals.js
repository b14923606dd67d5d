// What was refused for good, and when that was too often.

import { EXIT, log, Stop } from './exits.js';

const MOST = 5;
const WITHIN_MILLISECONDS = 60_000;

/** Counts refusals: again and again means that something is wrong here. */
export class Refusals {
  constructor() {
    this.times = [];
  }

  /** Logs one; throws where it is one too many. */
  add(event, message) {
    log(event, { message });
    this.times = [...this.times, Date.now()].slice(-MOST);
    if (this.times.length === MOST && Date.now() - this.times[0] <= WITHIN_MILLISECONDS) {
      throw new Stop(EXIT.DATA_REFUSED, `refused ${MOST} times in a minute: ${message}`);
    }
  }
}
