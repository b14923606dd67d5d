// One registration at work: pulls, rolling, pushes and evaluations, side by side in one event loop.

import { performance } from 'node:perf_hooks';
import { log, Refused, VersionGone } from './exits.js';
import { play } from './evaluate.js';
import { rollFragment } from './fragment.js';
import { newSlot } from './life.js';
import { Outbox } from './outbox.js';
import { Policies } from './policies.js';
import { Refusals } from './refusals.js';
import { Signature } from './signature.js';
import { Worklist } from './worklist.js';

const PULL_MARGIN_MILLISECONDS = 10_000;
const LEAVE_MILLISECONDS = 2_000;
const DRAIN_MILLISECONDS = 4_000;
// Nothing more is rolled while so many fragments of every slot wait to be pushed.
const BACKLOG_LAPS = 2;

/** Works from a registration until the run is over, the sampler is told to stop, or it is forgotten. */
export class Session {
  constructor({ calls, run, me, registration, environment, slots, before }) {
    this.calls = calls;
    this.run = run;
    this.me = me;
    this.registration = registration;
    this.environment = environment;
    this.signature = Signature.of(registration);
    this.slots = Array.from({ length: slots }, (_, slot) =>
      newSlot(registration, environment, slot),
    );
    const last = BigInt(registration.last_sequence);
    this.outbox = new Outbox(before && before.sequence > last ? before.sequence : last);
    this.progress = {
      rows_rolled: 0,
      rows_dropped: before?.lostAt(last) ?? 0,
      worker_restarts: 0,
      pushes_refused: 0,
      policy_seconds: 0,
      environment_seconds: 0,
      idle_seconds: 0,
    };
    this.policies = new Policies(calls.contract);
    this.revision = '0';
    this.works = new Worklist(slots);
    this.refusals = new Refusals();
    this.failure = null;
    this.working = new AbortController();
    this.pushing = new AbortController();
    this.notify();
  }

  /** Works; returns when the run is over or a drain is done, throws what ends the session otherwise. */
  async live() {
    const { working, pushing } = this;
    await Promise.all([
      this.guarded(this.pull(), working),
      this.guarded(this.roll(), working),
      this.guarded(this.evaluate(), working),
      this.guarded(this.push(), pushing),
    ]);
    clearTimeout(this.patience);
    if (this.failure) throw this.failure;
  }

  /** The first loop that fails calls the others off; what one that was called off throws is no news. */
  async guarded(loop, { signal }) {
    try {
      await loop;
    } catch (error) {
      if (signal.aborted) return;
      this.failure = error;
      this.end();
    }
  }

  /** Stops everything now. */
  end() {
    this.working.abort();
    this.pushing.abort();
    this.notify();
  }

  /** Drops all work; a push in flight may still be answered. */
  drain() {
    this.working.abort();
    this.progress.rows_dropped += this.outbox.drop(() => true);
    if (!this.outbox.current) this.end();
    else this.patience = setTimeout(() => this.end(), DRAIN_MILLISECONDS);
  }

  /** The last pull: tried once, for whom it reaches. */
  async leave() {
    const request = this.pullRequest({ leaving: true });
    await this.calls.once('PullWeights', request, LEAVE_MILLISECONDS).catch(() => {});
  }

  /** Resolves with the next `notify`. */
  nextChange() {
    return this.changed;
  }

  notify() {
    this.resolve?.();
    this.changed = new Promise((resolve) => {
      this.resolve = resolve;
    });
  }

  async pull() {
    const { signal } = this.working;
    const wait = this.run.limits.wait_milliseconds;
    while (!signal.aborted) {
      let asked = '0';
      const request = () => {
        const work = this.works.toPlay();
        asked = work && !this.policies.of(work.version) ? String(work.version) : '0';
        return this.pullRequest({ version: asked, wait_milliseconds: wait });
      };
      try {
        const milliseconds = wait + PULL_MARGIN_MILLISECONDS;
        await this.take(
          await this.calls.final('PullWeights', request, { milliseconds, signal }),
          asked,
        );
      } catch (error) {
        if (!(error instanceof VersionGone)) throw error;
        this.works.forget(BigInt(asked));
      }
      this.notify();
    }
  }

  pullRequest(more) {
    return {
      ...this.me,
      ...this.policies.have(),
      have_grants_revision: this.revision,
      progress: this.progress,
      pushing_sequence: this.outbox.pushing,
      ...more,
    };
  }

  async take(response, asked) {
    try {
      await this.policies.take(response, asked);
    } catch (error) {
      this.refusals.add('model_refused', error.message);
    }
    this.revision = response.grants_revision;
    this.takeGrants(response.grants);
  }

  takeGrants(grants) {
    const finish = grants.find(({ kind }) => kind === 'finish');
    if (finish) {
      log('run_finished', { reason: finish.finish.reason });
      this.end();
      return;
    }
    for (const work of this.works.take(grants)) {
      // What was rolled for a window of any newer version is as good under one grant as the next.
      if (!work.orNewer) this.drop(work);
    }
  }

  /** Nothing more is pushed of a work. */
  drop(work) {
    this.progress.rows_dropped += this.outbox.drop((one) => one.work === work);
  }

  async roll() {
    const { signal } = this.working;
    while (!signal.aborted) {
      const job = this.nextJob();
      if (!job) {
        const began = performance.now();
        await this.nextChange();
        this.progress.idle_seconds += (performance.now() - began) / 1000;
        continue;
      }
      const { work, numbers } = job;
      const batch = await rollFragment({
        policy: this.policies.newest,
        signature: this.signature,
        slots: numbers.map((number) => this.slots[number]),
        rows: work.rows,
        scalars: this.policies.scalars,
        progress: this.progress,
        isWanted: () => !signal.aborted && (!work.isOver || work.orNewer),
      });
      if (batch) this.outbox.add(work, batch);
      this.notify();
    }
  }

  nextJob() {
    const { newest } = this.policies;
    const isFull = this.outbox.fragments >= BACKLOG_LAPS * this.slots.length;
    return newest && !isFull ? this.works.takeFragments(newest.version) : null;
  }

  async push() {
    const { signal } = this.pushing;
    while (!signal.aborted) {
      const current = this.outbox.next();
      if (!current) {
        if (this.working.signal.aborted) this.end();
        else await this.nextChange();
        continue;
      }
      const { work, batch } = current;
      const sequence = String(this.outbox.sequence);
      const request = { ...this.me, sequence, grant_id: work.grantId, batch };
      const numbers = batch.slots.map(({ slot }) => slot);
      try {
        const { verdict } = await this.calls.final('PushTrajectories', () => request, { signal });
        this.outbox.answered();
        work.done(numbers);
        if (verdict === 'VERDICT_ENDED') {
          work.isOver = true;
          this.drop(work);
        }
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        this.outbox.answered(error);
        if (!error.tooLarge || !this.outbox.split(current)) {
          this.progress.pushes_refused += 1;
          this.refusals.add('push_refused', error.message);
          work.giveBack(numbers);
        }
      }
      this.notify();
    }
  }

  async evaluate() {
    const { signal } = this.working;
    while (!signal.aborted) {
      const work = this.works.toPlay();
      const policy = work && this.policies.of(work.version);
      if (!policy) {
        await this.nextChange();
        continue;
      }
      this.policies.evaluating = policy;
      const seeds = work.take(this.slots.length);
      const episodes = await play({
        policy,
        signature: this.signature,
        make: this.environment.makeForEvaluation,
        seeds,
        runSeed: this.registration.seed,
        scalars: this.policies.scalars,
        progress: this.progress,
        isWanted: () => !signal.aborted && !work.isOver,
      });
      if (episodes) await this.report(work, seeds, episodes);
    }
  }

  async report(work, seeds, episodes) {
    const { grantId, evaluationId, version } = work;
    const of = { grant_id: grantId, evaluation_id: evaluationId, version: String(version) };
    const request = { ...this.me, ...of, episodes };
    try {
      await this.calls.final('ReportEpisodes', () => request, { signal: this.working.signal });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.refusals.add('report_refused', error.message);
      work.giveBack(seeds);
    }
  }
}
