// A registration at work: pulls, and beside them the work that they bring, one piece after another.
// docs/writing-a-sampler.md: "Pulls", "Verdicts", "Evaluations" and "The end".

import { EventEmitter, once } from 'node:events';
import { EXIT, Refusals, Stop } from './exits.js';
import { Grants } from './grants.js';
import { newEvaluation, newSlot } from './life.js';
import { Policies } from './policies.js';
import { playEpisodes, rollFragments } from './rolling.js';
import { readSignature } from './signature.js';

const PULL_MARGIN_MILLISECONDS = 10_000;
const LEAVE_MILLISECONDS = 2_000;
const DRAIN_MILLISECONDS = 4_000;
const FOR_GOOD = ['INVALID_ARGUMENT', 'RESOURCE_EXHAUSTED'];

/** Works until there is a reason not to; `stopping` is a signal that calls it off. */
export class Session {
  constructor({ calls, limits, me, registration, environment, slots, before, stopping }) {
    Object.assign(this, { calls, limits, me, registration, environment, stopping });
    this.signature = readSignature(registration.signature);
    this.slots = Array.from({ length: slots }, (_, slot) => {
      return newSlot(registration, environment, slot);
    });
    this.progress = { rows_rolled: 0, rows_dropped: 0, pushes_refused: 0 };
    this.policies = new Policies();
    this.grants = new Grants(slots);
    this.revision = '0';
    this.refusals = new Refusals();
    /** The batch that is being pushed, and the sequence of that one or the last one. */
    this.batch = null;
    this.sequence = Number(registration.last_sequence);
    if (before?.sequence > this.sequence) {
      // A push that the learner did not count: its rows are lost, and its sequence is used up.
      this.sequence = before.sequence;
      if (before.batch) this.progress.rows_dropped += before.batch.rows * before.batch.slots.length;
    }
    this.news = new EventEmitter();
    this.over = new AbortController();
    /** Calls off all but the push under way, which a drain waits for. */
    this.working = AbortSignal.any([stopping, this.over.signal]);
  }

  /** Throws what ends it, which is a Stop also where the run is over. */
  async work() {
    const { over, stopping } = this;
    const end = (error) => stopping.aborted || over.abort(error);
    const drain = () => setTimeout(() => over.abort(), DRAIN_MILLISECONDS).unref();
    stopping.addEventListener('abort', drain, { once: true, signal: over.signal });
    await Promise.all([this.pull().catch(end), this.obey().catch(end)]);
    over.abort();
    throw this.working.reason;
  }

  /** The last pull: tried once, for whom it reaches. */
  async leave() {
    const request = { ...this.pullRequest(), leaving: true };
    await this.calls.attempt('PullWeights', request, LEAVE_MILLISECONDS);
  }

  async pull() {
    const milliseconds = this.limits.wait_milliseconds + PULL_MARGIN_MILLISECONDS;
    const options = { milliseconds, signal: this.working };
    for (;;) {
      try {
        // Made anew for each attempt: it tells how far the work is.
        await this.take(await this.calls.final('PullWeights', () => this.pullRequest(), options));
      } catch (error) {
        if (error.reason !== 'VERSION_GONE') throw error;
        this.grants.forget(this.asked);
      }
      this.news.emit('pulled');
    }
  }

  pullRequest() {
    const { newest, scalarsVersion } = this.policies;
    const version = this.grants.toPlay()?.version ?? 0;
    this.asked = this.policies.of(version) ? 0 : version;
    return {
      ...this.me,
      have_version: newest?.version,
      have_model_sha256: newest?.sha256,
      have_scalars_version: scalarsVersion,
      have_grants_revision: this.revision,
      wait_milliseconds: this.limits.wait_milliseconds,
      version: this.asked,
      progress: this.progress,
      pushing_sequence: this.batch ? this.sequence : 0,
    };
  }

  async take(answer) {
    try {
      await this.policies.take(answer, this.asked);
    } catch (error) {
      this.refusals.add('model_refused', error.message);
    }
    this.revision = answer.grants_revision;
    this.grants.take(answer.grants);
    const last = answer.grants.find(({ kind }) => kind === 'finish');
    if (last) throw new Stop(EXIT.FINISHED, `the run is over: ${last.finish.reason}`);
  }

  /** Does what the grants say: evaluations first. */
  async obey() {
    const bytes = Number(this.limits.max_message_bytes);
    const most = (rows) => this.signature.slotsPerPush(rows, bytes);
    while (!this.working.aborted) {
      const { newest } = this.policies;
      const play = this.grants.toPlay();
      const player = play && this.policies.of(play.version);
      const roll = !player && newest && this.grants.toRoll(newest.version, most);
      if (player) await this.evaluate(play, player);
      else if (roll) await this.collect(roll, newest);
      else await once(this.news, 'pulled', { signal: this.working });
    }
  }

  async collect({ grant, slots }, policy) {
    const lives = slots.map((slot) => this.slots[slot]);
    const batch = await rollFragments(this.task(grant, policy, lives), grant.rows);
    if (!batch) return;
    this.batch = batch;
    this.sequence += 1;
    const request = { ...this.me, sequence: this.sequence, grant_id: grant.id, batch };
    const answer = await this.handIn('PushTrajectories', request, this.over.signal);
    this.batch = null;
    if (!answer) {
      this.progress.pushes_refused += 1;
      grant.giveBack(slots);
    }
    if (answer?.verdict === 'VERDICT_ENDED') grant.isOver = true;
  }

  async evaluate(grant, policy) {
    // It stays at hand until the grant is done, whatever is published meanwhile.
    this.policies.evaluating = policy;
    const seeds = grant.take(this.slots.length);
    const lives = seeds.map((seed) => newEvaluation(this.registration, this.environment, seed));
    const played = await playEpisodes(this.task(grant, policy, lives));
    if (!played) return;
    const request = {
      ...this.me,
      grant_id: grant.id,
      evaluation_id: grant.evaluationId,
      version: grant.version,
      episodes: played.map((episode, i) => ({ seed: seeds[i], episode })),
    };
    if (!(await this.handIn('ReportEpisodes', request, this.working))) grant.giveBack(seeds);
  }

  /** What rolling and playing need; a fragment of any newer version is as good after its grant. */
  task(grant, policy, lives) {
    const { signature, progress, working, policies } = this;
    const isWanted = () => !working.aborted && (!grant.isOver || grant.orNewer);
    return { signature, progress, policy, scalars: policies.scalars, lives, isWanted };
  }

  /** The answer to a push or a report; null where it was refused for good. */
  async handIn(method, request, signal) {
    const milliseconds = this.limits.push_deadline_milliseconds;
    try {
      return await this.calls.final(method, () => request, { milliseconds, signal });
    } catch (error) {
      if (!FOR_GOOD.includes(error.code)) throw error;
      this.refusals.add('refused', error.message);
      return null;
    }
  }
}
