// How the sampler ends, and what ends a session: the same exit codes as the Python sampler's.

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

/** The sampler cannot go on, and starting over would not help. */
export class Stop extends Error {
  constructor(exitCode, message) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** The learner serves another run: start over from GetRun. */
export class RunChanged extends Error {}

/** The learner has forgotten this sampler: register again. */
export class Forgotten extends Error {}

/** The version that a pull named is not kept any more. */
export class VersionGone extends Error {}

/** A final answer to a call that is no response; the same request never succeeds. */
export class Refused extends Error {}

/** Counts what was refused for good: again and again means that something is wrong here. */
export class Refusals {
  times = [];

  /** Logs one; throws where it is one too many. */
  add(event, message) {
    log(event, { message });
    this.times = [...this.times, Date.now()].slice(-MOST_REFUSALS);
    const isFull = this.times.length === MOST_REFUSALS;
    if (isFull && Date.now() - this.times[0] <= WITHIN_MILLISECONDS) {
      throw new Stop(EXIT.DATA_REFUSED, `refused ${MOST_REFUSALS} times in a minute: ${message}`);
    }
  }
}

/** An event for people and log collectors, one JSON object a line. */
export function log(event, fields = {}) {
  process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), event, ...fields })}\n`);
}
