#!/usr/bin/env node
// A sampler's life: finds the run, registers, works, stops.

import { randomBytes } from 'node:crypto';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Calls } from './calls.js';
import { environmentOf } from './cartpole.js';
import { loadContract } from './contract.js';
import { EXIT, Forgotten, log, RunChanged, Stop } from './exits.js';
import { help, parse } from './options.js';
import { Session } from './session.js';
import { Signature } from './signature.js';

const PROTOCOL_VERSION = 1;
const REGISTER_MILLISECONDS = 60_000;
const FIRST_PAUSE_MILLISECONDS = 100;
const LONGEST_PAUSE_MILLISECONDS = 1000;
const SETTLED_MILLISECONDS = 10_000;

/** One sampler, from the first call to the farewell. */
class Sampler {
  constructor(options) {
    this.options = options;
    this.calls = new Calls(loadContract(options.protos), options);
    this.id = randomBytes(8).toString('hex');
    this.stopping = new AbortController();
    this.session = null;
  }

  /** Serves run after run until one is over; each time the learner forgets it, it begins anew. */
  async live() {
    let pause = FIRST_PAUSE_MILLISECONDS;
    for (;;) {
      const began = Date.now();
      try {
        this.session = await this.register(this.session);
        await this.work();
        return;
      } catch (error) {
        if (!(error instanceof RunChanged || error instanceof Forgotten)) throw error;
        log(error instanceof Forgotten ? 'registering_again' : 'run_changed', {
          message: error.message,
        });
      }
      if (Date.now() - began > SETTLED_MILLISECONDS) pause = FIRST_PAUSE_MILLISECONDS;
      await sleep(pause * (0.5 + Math.random() / 2), null, this.stopping);
      pause = Math.min(2 * pause, LONGEST_PAUSE_MILLISECONDS);
    }
  }

  /** A new session; the one before it counts where the run is the same. */
  async register(former) {
    const { signal } = this.stopping;
    const { envs: slots, name } = this.options;
    const run = await this.calls.final('GetRun', () => ({}), { signal });
    if (run.protocol_version !== PROTOCOL_VERSION) {
      throw new Stop(EXIT.REFUSED, `the learner speaks protocol ${run.protocol_version}, not 1`);
    }
    const environment = environmentOf(run);
    this.calls.use(run.limits);
    const before = former?.run.run_id === run.run_id ? former : null;
    const me = { run_id: run.run_id, sampler_id: this.id };
    const about = { protocol_version: PROTOCOL_VERSION, name, spec: environment.spec };
    const request = { ...me, ...about, slots, max_slots_per_push: slots };
    if (before) request.previous_index = before.registration.index;
    const options = { milliseconds: REGISTER_MILLISECONDS, signal };
    const registration = await this.calls.final('Register', () => request, options);
    log('registered', { run_id: run.run_id, index: registration.index, slots });
    const { calls } = this;
    const signature = signatureOf(registration);
    const registered = { calls, run, me, registration, signature, environment, slots, before };
    return new Session(registered);
  }

  async work() {
    try {
      if (!this.stopping.signal.aborted) await this.session.live();
    } catch (error) {
      if (error instanceof Stop && error.exitCode !== EXIT.UNREACHABLE) await this.session.leave();
      throw error;
    }
    await this.session.leave();
  }

  /** Drains on a signal: what is in flight may still arrive, nothing new begins. */
  stop() {
    this.stopping.abort();
    this.session?.drain();
  }
}

function signatureOf({ signature }) {
  try {
    return new Signature(signature);
  } catch (error) {
    throw new Stop(EXIT.REFUSED, `the learner's signature: ${error.message}`);
  }
}

async function main() {
  const options = parse(process.argv.slice(2));
  if (options === null) {
    process.stdout.write(help());
    return EXIT.FINISHED;
  }
  const sampler = new Sampler(options);
  let stopped = 0;
  for (const name of ['SIGTERM', 'SIGINT']) {
    process.on(name, () => {
      const code = 128 + constants.signals[name];
      // A second signal is one of somebody who cannot wait.
      if (stopped) process.exit(code);
      stopped = code;
      log('draining', { signal: name });
      sampler.stop();
    });
  }
  try {
    await sampler.live();
  } catch (error) {
    if (!stopped) throw error;
  } finally {
    sampler.calls.close();
  }
  return stopped || EXIT.FINISHED;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof Stop)) throw error;
  process.stderr.write(`sampler: ${error.message}\n`);
  process.exitCode = error.exitCode;
}
