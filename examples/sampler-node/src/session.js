// One registration at work: pulls, rolling, pushes and evaluations, side by side in one event loop.

import { performance } from 'node:perf_hooks';
import { EXIT, log, Refused, Stop, VersionGone } from './exits.js';
import { play } from './evaluate.js';
import { rollFragment } from './fragment.js';
import { Life } from './life.js';
import { Outbox } from './outbox.js';
import { Policy } from './policy.js';
import { environmentSeed, noiseKey } from './random.js';
import { Signature } from './signature.js';
import { Evaluation, workOf } from './work.js';

const PULL_MARGIN_MILLISECONDS = 10_000;
const LEAVE_MILLISECONDS = 2_000;
const DRAIN_MILLISECONDS = 4_000;
const MOST_REFUSALS = 5;
const REFUSALS_WITHIN_MILLISECONDS = 60_000;
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
    this.signature = signatureOf(registration);
    this.slots = Array.from({ length: slots }, (_, slot) => this.bornAt(slot));
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
    this.policy = null;
    this.modelSha256 = Buffer.alloc(0);
    this.evaluationPolicy = null;
    this.scalars = new Map();
    this.scalarsVersion = '0';
    this.revision = '0';
    this.works = new Map();
    this.refusedAt = [];
    this.failure = null;
    this.working = new AbortController();
    this.pushing = new AbortController();
    this.notify();
  }

  bornAt(slot) {
    const { seed, index, incarnation_base: incarnation } = this.registration;
    const address = [seed, index, slot, incarnation];
    const life = new Life(
      this.environment.make(),
      environmentSeed(...address),
      noiseKey(...address),
    );
    return Object.assign(life, { slot, incarnation });
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
        const lacking = this.toPlay();
        asked = lacking && !this.policyOf(lacking.version) ? String(lacking.version) : '0';
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
        for (const work of this.works.values())
          if (String(work.version) === asked) this.finish(work);
      }
      this.notify();
    }
  }

  pullRequest(more) {
    return {
      ...this.me,
      have_version: String(this.policy?.version ?? 0),
      have_model_sha256: this.modelSha256,
      have_scalars_version: this.scalarsVersion,
      have_grants_revision: this.revision,
      progress: this.progress,
      pushing_sequence: this.outbox.pushing,
      ...more,
    };
  }

  async take(response, asked) {
    if (response.scalars_version !== this.scalarsVersion) {
      this.scalars = new Map(response.scalars.map(({ key, values }) => [key, values]));
      this.scalarsVersion = response.scalars_version;
    }
    try {
      await this.takePolicy(response, asked);
    } catch (error) {
      this.refuse('model_refused', error.message);
    }
    this.revision = response.grants_revision;
    this.takeGrants(response.grants);
  }

  async takePolicy(response, asked) {
    const version = BigInt(response.version);
    const isAsked = asked !== '0' && response.version === asked;
    if (!isAsked && version <= (this.policy?.version ?? 0n)) return;
    const isKnown = response.model === undefined && response.model_sha256.equals(this.modelSha256);
    const policy = isKnown
      ? new Policy(version, this.policy.session)
      : await Policy.load(this.calls.contract, response);
    if (isAsked) {
      this.evaluationPolicy = policy;
    } else {
      this.policy = policy;
      this.modelSha256 = response.model_sha256;
    }
  }

  takeGrants(grants) {
    const listed = new Set(grants.map((grant) => grant.grant_id));
    for (const work of this.works.values()) {
      if (listed.has(work.grantId)) continue;
      this.works.delete(work.grantId);
      // What was rolled for a window of any newer version is as good under one grant as the next.
      if (work.orNewer) work.isOver = true;
      else this.finish(work);
    }
    for (const grant of grants) {
      if (grant.kind === 'finish') {
        log('run_finished', { reason: grant.finish.reason });
        this.end();
        return;
      }
      const known = this.works.get(grant.grant_id);
      const work = known ?? workOf(grant, this.slots.length);
      if (known) known.update(grant);
      else if (work) this.works.set(work.grantId, work);
    }
  }

  /** Nothing more is wanted of a work: what of it waits is dropped. */
  finish(work) {
    work.isOver = true;
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
        policy: this.policy,
        signature: this.signature,
        slots: numbers.map((number) => this.slots[number]),
        rows: work.rows,
        scalars: this.scalars,
        progress: this.progress,
        isWanted: () => !signal.aborted && (!work.isOver || work.orNewer),
      });
      if (batch) this.outbox.add(work, batch);
      this.notify();
    }
  }

  nextJob() {
    if (!this.policy || this.outbox.fragments >= BACKLOG_LAPS * this.slots.length) return null;
    for (const work of this.works.values()) {
      const isWanted = !work.isOver && work.canUse?.(this.policy.version);
      const numbers = isWanted ? work.take() : [];
      if (numbers.length) return { work, numbers };
    }
    return null;
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
        if (verdict === 'VERDICT_ENDED') this.finish(work);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        this.outbox.answered(error);
        if (!error.tooLarge || !this.outbox.split(current)) {
          this.progress.pushes_refused += 1;
          this.refuse('push_refused', error.message);
          work.giveBack(numbers);
        }
      }
      this.notify();
    }
  }

  async evaluate() {
    const { signal } = this.working;
    while (!signal.aborted) {
      const work = this.toPlay();
      const policy = work && this.policyOf(work.version);
      if (!policy) {
        await this.nextChange();
        continue;
      }
      this.evaluationPolicy = policy;
      const seeds = work.take(this.slots.length);
      const episodes = await play({
        policy,
        signature: this.signature,
        make: this.environment.makeForEvaluation,
        seeds,
        runSeed: this.registration.seed,
        scalars: this.scalars,
        progress: this.progress,
        isWanted: () => !signal.aborted && !work.isOver,
      });
      if (episodes) await this.report(work, seeds, episodes);
    }
  }

  async report({ grantId, evaluationId, version }, seeds, episodes) {
    const of = { grant_id: grantId, evaluation_id: evaluationId, version: String(version) };
    const request = { ...this.me, ...of, episodes };
    try {
      await this.calls.final('ReportEpisodes', () => request, { signal: this.working.signal });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.refuse('report_refused', error.message);
      this.works.get(grantId)?.giveBack(seeds);
    }
  }

  /** The evaluation that has seeds to play. */
  toPlay() {
    return [...this.works.values()].find(
      (work) => work instanceof Evaluation && !work.isOver && work.pending.length,
    );
  }

  policyOf(version) {
    return [this.policy, this.evaluationPolicy].find((policy) => policy?.version === version);
  }

  /** Counts what was refused for good: again and again means that something is wrong here. */
  refuse(event, message) {
    log(event, { message });
    this.refusedAt = [...this.refusedAt, Date.now()].slice(-MOST_REFUSALS);
    const [first] = this.refusedAt;
    const isFull = this.refusedAt.length === MOST_REFUSALS;
    if (isFull && Date.now() - first <= REFUSALS_WITHIN_MILLISECONDS) {
      throw new Stop(EXIT.DATA_REFUSED, `refused ${MOST_REFUSALS} times in a minute: ${message}`);
    }
  }
}

function signatureOf(registration) {
  try {
    return new Signature(registration.signature);
  } catch (error) {
    throw new Stop(EXIT.REFUSED, `the learner's signature: ${error.message}`);
  }
}
