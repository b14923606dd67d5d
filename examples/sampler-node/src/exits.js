// Why and with what a sampler ends; what it says meanwhile.
// docs/writing-a-sampler.md: "The end", and what "Verdicts" says of refusals.

/** The exit codes of the Python sampler; after a signal it is 128 plus that one's number. */
export const EXIT = {
  FINISHED: 0,
  USAGE: 2,
  UNREACHABLE: 3,
  REFUSED: 4,
  ENVIRONMENT: 5,
  DATA_REFUSED: 7,
};

const MOST_REFUSALS = 5;
const WITHIN_MILLISECONDS = 60_000;

/**
 * The sampler cannot go on, or need not. Where a status of the learner's says so its `code` and
 * `reason` are there, for whoever has something left to do.
 */
export class Stop extends Error {
  constructor(exitCode, message, { code, reason } = {}) {
    super(message);
    Object.assign(this, { exitCode, code, reason });
  }
}

/** Counts what was refused for good: again and again means that something is wrong here. */
export class Refusals {
  times = [];

  /** Logs one; throws where it is one too many. */
  add(event, message) {
    log(event, { message });
    const now = Date.now();
    this.times = this.times.filter((time) => now - time <= WITHIN_MILLISECONDS);
    this.times.push(now);
    if (this.times.length >= MOST_REFUSALS) {
      throw new Stop(EXIT.DATA_REFUSED, `refused ${MOST_REFUSALS} times in a minute: ${message}`);
    }
  }
}

/** An event for people and log collectors, one JSON object a line. */
export function log(event, fields) {
  process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), event, ...fields })}\n`);
}
