// One registration at work: pulls, and beside them the work that they bring, one piece after another.

import { log, Refusals, Refused, VersionGone } from './exits.js';
import { Grants } from './grants.js';
import { newEvaluation, newSlot } from './life.js';
import { Policies } from './policies.js';
import { playEpisodes, rollFragments } from './rolling.js';

const PULL_MARGIN_MILLISECONDS = 10_000;
const LEAVE_MILLISECONDS = 2_000;
const DRAIN_MILLISECONDS = 4_000;

/** Works from a registration until the run is over, the sampler is told to stop, or it is forgotten. */
export class Session {
  constructor({ calls, run, me, registration, signature, environment, slots, before }) {
    Object.assign(this, { calls, run, me, registration, signature, environment });
    this.slots = Array.from({ length: slots }, (_, slot) =>
      newSlot(registration, environment, slot),
    );
    this.progress = { rows_rolled: 0, rows_dropped: 0, pushes_refused: 0 };
    this.policies = new Policies(calls.contract);
    this.grants = new Grants(slots);
    this.revision = '0';
    this.refusals = new Refusals();
    /** The batch that is being pushed, and the sequence of that one or the last one. */
    this.batch = null;
    this.sequence = BigInt(registration.last_sequence);
    if (before?.sequence > this.sequence) {
      // A push that the learner did not count: its rows are lost, and its sequence is used up.
      this.sequence = before.sequence;
      if (before.batch) this.progress.rows_dropped += rowsOf(before.batch);
    }
    this.failure = null;
    this.working = new AbortController();
    this.pushing = new AbortController();
    this.notify();
  }

  /** Works; returns when the run is over or a drain is done, throws what ends the session otherwise. */
  async live() {
    const loops = [this.pull(), this.work()].map((loop) =>
      loop.catch((error) => {
        // What one that was called off throws is no news.
        if (this.working.signal.aborted) return;
        this.failure = error;
        this.end();
      }),
    );
    await Promise.all(loops);
    clearTimeout(this.patience);
    if (this.failure) throw this.failure;
  }

  /** Stops everything now. */
  end() {
    this.working.abort();
    this.pushing.abort();
    this.notify();
  }

  /** Begins nothing new; a push in flight may still be answered. */
  drain() {
    this.working.abort();
    this.notify();
    this.patience = setTimeout(() => this.pushing.abort(), DRAIN_MILLISECONDS);
  }

  /** The last pull: tried once, for whom it reaches. */
  async leave() {
    const request = this.pullRequest({ leaving: true });
    await this.calls.once('PullWeights', request, LEAVE_MILLISECONDS).catch(() => {});
  }

  /** Has whoever awaits `changed` look again. */
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
      // Made anew for each attempt: it tells how far the work is.
      const request = () => {
        const version = this.grants.toPlay()?.version ?? 0n;
        asked = this.policies.of(version) ? '0' : String(version);
        return this.pullRequest({ version: asked, wait_milliseconds: wait });
      };
      const milliseconds = wait + PULL_MARGIN_MILLISECONDS;
      try {
        const news = await this.calls.final('PullWeights', request, { milliseconds, signal });
        await this.take(news, asked);
      } catch (error) {
        if (!(error instanceof VersionGone)) throw error;
        this.grants.forget(BigInt(asked));
      }
      this.notify();
    }
  }

  pullRequest(more) {
    const { me, progress, revision } = this;
    const pushing = this.batch ? String(this.sequence) : '0';
    const having = { ...this.policies.have(), have_grants_revision: revision };
    return { ...me, ...having, progress, pushing_sequence: pushing, ...more };
  }

  async take(news, asked) {
    try {
      await this.policies.take(news, asked);
    } catch (error) {
      this.refusals.add('model_refused', error.message);
    }
    this.revision = news.grants_revision;
    this.grants.take(news.grants);
    const finish = news.grants.find(({ kind }) => kind === 'finish');
    if (finish) {
      log('run_finished', { reason: finish.finish.reason });
      this.end();
    }
  }

  async work() {
    const { signal } = this.working;
    const bytes = Number(this.run.limits.max_message_bytes);
    const most = (rows) => this.signature.slotsPerPush(rows, bytes);
    while (!signal.aborted) {
      const { newest } = this.policies;
      const play = this.grants.toPlay();
      const policy = play && this.policies.of(play.version);
      const roll = !policy && newest && this.grants.toRoll(newest.version, most);
      if (policy) await this.evaluate(play, policy);
      else if (roll) await this.collect(roll);
      else await this.changed;
    }
  }

  async collect({ grant, slots }) {
    const batch = await rollFragments({
      ...this.tools(grant),
      policy: this.policies.newest,
      slots: slots.map((slot) => this.slots[slot]),
      rows: grant.rows,
    });
    if (batch) await this.push(grant, slots, batch);
  }

  /** What rolling and playing need; a fragment of any newer version is as good after its grant. */
  tools(grant) {
    const { signature, progress } = this;
    const { signal } = this.working;
    const isWanted = () => !signal.aborted && (!grant.isOver || grant.orNewer);
    return { signature, progress, scalars: this.policies.scalars, isWanted };
  }

  async push(grant, slots, batch) {
    this.batch = batch;
    this.sequence += 1n;
    const request = { ...this.me, sequence: String(this.sequence), grant_id: grant.id, batch };
    try {
      const { signal } = this.pushing;
      const { verdict } = await this.calls.final('PushTrajectories', () => request, { signal });
      if (verdict === 'VERDICT_ENDED') grant.isOver = true;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.progress.pushes_refused += 1;
      this.refusals.add('push_refused', error.message);
      grant.giveBack(slots);
    }
    this.batch = null;
  }

  async evaluate(grant, policy) {
    this.policies.evaluating = policy;
    const seeds = grant.take(this.slots.length);
    const lives = seeds.map((seed) => newEvaluation(this.registration, this.environment, seed));
    const played = await playEpisodes({ ...this.tools(grant), policy, lives });
    if (!played) return;
    const episodes = seeds.map((seed, i) => ({ seed, episode: played[i] }));
    const of = { grant_id: grant.id, evaluation_id: grant.evaluationId };
    const request = { ...this.me, ...of, version: String(grant.version), episodes };
    try {
      await this.calls.final('ReportEpisodes', () => request, { signal: this.working.signal });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.refusals.add('report_refused', error.message);
      grant.giveBack(seeds);
    }
  }
}

function rowsOf({ rows, slots }) {
  return rows * slots.length;
}
