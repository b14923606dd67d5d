#!/usr/bin/env node
// A sampler's life: finds the run, registers, works, stops.

import { randomBytes } from 'node:crypto';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Calls } from './calls.js';
import { loadContract } from './contract.js';
import { build } from './environments.js';
import { EXIT, Forgotten, log, RunChanged, Stop } from './exits.js';
import { help, parse } from './options.js';
import { Session } from './session.js';

const PROTOCOL_VERSION = 1;
const REGISTER_MILLISECONDS = 60_000;
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
    this.index = null;
  }

  /** Serves run after run until one is over; each time the learner forgets it, it begins anew. */
  async live() {
    let pause = 100;
    for (;;) {
      const began = Date.now();
      try {
        await this.serve();
        return;
      } catch (error) {
        if (!(error instanceof RunChanged || error instanceof Forgotten)) throw error;
        log(error instanceof Forgotten ? 'registering_again' : 'run_changed', {
          message: error.message,
        });
      }
      pause = Date.now() - began > SETTLED_MILLISECONDS ? 100 : pause;
      await sleep(pause * (0.5 + Math.random() / 2), undefined, this.stopping);
      pause = Math.min(2 * pause, LONGEST_PAUSE_MILLISECONDS);
    }
  }

  async serve() {
    const { signal } = this.stopping;
    const run = await this.calls.final('GetRun', () => ({}), { signal });
    if (run.protocol_version !== PROTOCOL_VERSION) {
      throw new Stop(EXIT.REFUSED, `the learner speaks protocol ${run.protocol_version}, not 1`);
    }
    const environment = build(run);
    this.calls.use(run.limits);
    // A session before this one counts where the run is the same.
    const before = this.session?.run.run_id === run.run_id ? this.session : null;
    const me = { run_id: run.run_id, sampler_id: this.id };
    const { envs, name } = this.options;
    const request = { ...me, protocol_version: PROTOCOL_VERSION, name, spec: environment.spec };
    Object.assign(request, { slots: envs, max_slots_per_push: envs });
    if (before) request.previous_index = before.registration.index;
    const milliseconds = REGISTER_MILLISECONDS;
    const registration = await this.calls.final('Register', () => request, {
      milliseconds,
      signal,
    });
    log('registered', { run_id: run.run_id, index: registration.index, slots: envs });
    const { calls } = this;
    this.session = new Session({
      calls,
      run,
      me,
      registration,
      environment,
      slots: envs,
      before: before?.outbox,
    });
    await this.work(this.session);
  }

  async work(session) {
    this.working = session;
    try {
      if (!this.stopping.signal.aborted) await session.live();
    } catch (error) {
      if (error instanceof Stop && error.exitCode !== EXIT.UNREACHABLE) await session.leave();
      throw error;
    } finally {
      this.working = null;
    }
    await session.leave();
  }

  /** Drains on a signal: what is in flight may still arrive, nothing new begins. */
  stop() {
    this.stopping.abort();
    this.working?.drain();
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
