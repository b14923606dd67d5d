#!/usr/bin/env node
// A sampler from its first call to its farewell.
// docs/writing-a-sampler.md: "The life of a sampler", "Registering" and "The end".

import { randomBytes } from 'node:crypto';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Calls } from './calls.js';
import { environmentOf } from './cartpole.js';
import { EXIT, log, Stop } from './exits.js';
import { help, parse } from './options.js';
import { Session } from './session.js';

const PROTOCOL_VERSION = 1;
const GET_RUN_MILLISECONDS = 5_000;
const REGISTER_MILLISECONDS = 60_000;
const PAUSE_MILLISECONDS = 100;
// What a learner answers that serves another run, or has forgotten this sampler.
const BEGIN_ANEW = ['RUN_CHANGED', 'UNKNOWN_SAMPLER'];

/** Registers and works, again and again, until there is a reason to stop, which is thrown. */
async function live(calls, options, stopping) {
  const samplerId = randomBytes(8).toString('hex');
  let session;
  try {
    for (;;) {
      try {
        session = await register(calls, options, samplerId, session, stopping);
        await session.work();
      } catch (error) {
        if (!BEGIN_ANEW.includes(error.reason)) throw error;
        log('registering_again', { message: error.message });
      }
      await sleep(PAUSE_MILLISECONDS * (1 + Math.random()), null, { signal: stopping });
    }
  } finally {
    await session?.leave();
  }
}

/** A new session; the one before it counts where the run is the same. */
async function register(calls, { envs: slots, name }, samplerId, former, stopping) {
  const getting = { milliseconds: GET_RUN_MILLISECONDS, signal: stopping };
  const run = await calls.final('GetRun', () => ({}), getting);
  if (run.protocol_version !== PROTOCOL_VERSION) {
    const spoken = run.protocol_version;
    throw new Stop(EXIT.REFUSED, `the learner speaks protocol ${spoken}, not ${PROTOCOL_VERSION}`);
  }
  const environment = environmentOf(run);
  const me = { run_id: run.run_id, sampler_id: samplerId };
  const before = former?.me.run_id === run.run_id ? former : null;
  const request = {
    ...me,
    protocol_version: PROTOCOL_VERSION,
    name,
    spec: environment.spec,
    slots,
    max_slots_per_push: slots,
    previous_index: before?.registration.index,
  };
  const registering = { milliseconds: REGISTER_MILLISECONDS, signal: stopping };
  const registration = await calls.final('Register', () => request, registering);
  log('registered', { run_id: run.run_id, index: registration.index, slots });
  const { limits } = run;
  return new Session({ calls, limits, me, registration, environment, slots, before, stopping });
}

/** Has a signal drain the sampler. */
function stoppedBySignals() {
  const stopping = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT']) {
    const code = 128 + constants.signals[name];
    process.on(name, () => {
      // A second one is of somebody who cannot wait.
      if (stopping.signal.aborted) process.exit(code);
      log('draining', { signal: name });
      stopping.abort(new Stop(code, `stopped by ${name}`));
    });
  }
  return stopping.signal;
}

const stopping = stoppedBySignals();
try {
  const options = parse(process.argv.slice(2));
  if (options.help) process.stdout.write(help());
  else await live(new Calls(options), options, stopping);
} catch (error) {
  // What is called off throws an AbortError here and there; the reason says more.
  const reason = stopping.aborted ? stopping.reason : error;
  if (!(reason instanceof Stop)) throw reason;
  process.stderr.write(`sampler: ${reason.message}\n`);
  process.exitCode = reason.exitCode;
}
