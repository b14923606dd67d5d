// Calls of the learner, each repeated until there is a final answer.
// docs/writing-a-sampler.md: "Retries" and "Security".

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import { ErrorInfo, LearnerService, RetryInfo, Status } from './contract.js';
import { EXIT, log, Stop } from './exits.js';

const SILENCE = ['UNAVAILABLE', 'DEADLINE_EXCEEDED'];
const REPEATED = [...SILENCE, 'INTERNAL', 'CANCELLED', 'UNKNOWN', 'ABORTED'];
const FIRST_PAUSE_MILLISECONDS = 100;
const LONGEST_PAUSE_MILLISECONDS = 1000;
// A push that its deadline cuts off again and again over a slow network would never arrive.
const LONGEST_DEADLINE_FACTOR = 16;

/** The learner, over two connections: where a push takes long, pulls must not wait behind it. */
export class Calls {
  constructor(options) {
    this.options = options;
    this.narrow = open(options, false);
    this.wide = open(options, true);
    this.heardAt = Date.now();
  }

  /**
   * The response to a call. A final status is thrown as a Stop, and so is the reason of `signal`
   * where that calls it off. `request` is asked anew for every attempt.
   */
  async final(method, request, { milliseconds, signal }) {
    let deadline = milliseconds;
    let pause = FIRST_PAUSE_MILLISECONDS;
    let isRefreshed = false;
    for (;;) {
      const { error, response } = await this.attempt(method, request(), deadline, signal);
      signal.throwIfAborted();
      if (!error) {
        this.heardAt = Date.now();
        return response;
      }
      const status = statusOf(error);
      const said = `${method}: ${status.code} ${status.reason}: ${status.message}`;
      log('call_failed', { message: said });
      this.checkSilence(status, said);
      if (!isRepeated(status, isRefreshed)) throw new Stop(EXIT.REFUSED, said, status);
      isRefreshed = status.code === 'UNAUTHENTICATED';
      if (status.code === 'DEADLINE_EXCEEDED') {
        deadline = Math.min(2 * deadline, LONGEST_DEADLINE_FACTOR * milliseconds);
      }
      // Up to half more, so that samplers that failed together do not come again together.
      const wait = (status.retryMilliseconds ?? pause) * (1 + Math.random() / 2);
      await sleep(wait, null, { signal });
      pause = Math.min(2 * pause, LONGEST_PAUSE_MILLISECONDS);
    }
  }

  /** One attempt, as its error or its response. */
  attempt(method, request, milliseconds, signal) {
    signal?.throwIfAborted();
    const metadata = new grpc.Metadata();
    const token = this.options['token-file'];
    // Read anew for every call, so that it can be replaced.
    if (token) metadata.set('authorization', `Bearer ${String(fileAt(token)).trim()}`);
    const client = method === 'PushTrajectories' ? this.wide : this.narrow;
    const options = { deadline: Date.now() + milliseconds };
    return new Promise((resolve) => {
      const call = client[method](request, metadata, options, (error, response) => {
        signal?.removeEventListener('abort', cancel);
        resolve({ error, response });
      });
      const cancel = () => call.cancel();
      signal?.addEventListener('abort', cancel);
    });
  }

  /** Stops where nobody has answered for too long. */
  checkSilence({ code, reason }, said) {
    if (reason || !SILENCE.includes(code)) this.heardAt = Date.now();
    const { 'connect-timeout-seconds': patience, learner } = this.options;
    if (patience > 0 && Date.now() - this.heardAt >= 1000 * patience) {
      throw new Stop(EXIT.UNREACHABLE, `no learner at ${learner} for ${patience} s (${said})`);
    }
  }
}

function isRepeated({ code, retryMilliseconds }, isRefreshed) {
  if (code === 'RESOURCE_EXHAUSTED') return retryMilliseconds !== null;
  if (code === 'UNAUTHENTICATED') return !isRefreshed;
  return REPEATED.includes(code);
}

/** Code, message, reason and RetryInfo of a failed call. */
function statusOf({ code, details, metadata }) {
  const status = { code: grpc.status[code], message: details, reason: '', retryMilliseconds: null };
  const [packed] = metadata.get('grpc-status-details-bin');
  for (const { type_url: type, value } of packed ? Status.deserialize(packed).details : []) {
    if (type.endsWith('/google.rpc.ErrorInfo')) {
      const { domain, reason } = ErrorInfo.deserialize(value);
      if (domain === 'wiserl') status.reason = reason;
    }
    if (type.endsWith('/google.rpc.RetryInfo')) {
      const { retry_delay: delay } = RetryInfo.deserialize(value);
      status.retryMilliseconds = Number(delay?.seconds ?? 0) * 1000 + (delay?.nanos ?? 0) / 1e6;
    }
  }
  return status;
}

function open(options, isOwnConnection) {
  return new LearnerService(options.learner, credentialsOf(options), {
    // What the learner sends is bounded by what it says itself.
    'grpc.max_receive_message_length': -1,
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 1000,
    'grpc.keepalive_time_ms': 60_000,
    'grpc.use_local_subchannel_pool': Number(isOwnConnection),
    // A proxy for the world outside must not stand between two processes of one machine.
    'grpc.enable_http_proxy': /^(localhost|127\.|\[::1\])/.test(options.learner) ? 0 : 1,
  });
}

function credentialsOf(options) {
  const files = ['tls-ca', 'tls-client-key', 'tls-client-cert'].map((name) => options[name]);
  if (!files[0]) return grpc.credentials.createInsecure();
  return grpc.credentials.createSsl(...files.map((path) => (path ? fileAt(path) : null)));
}

function fileAt(path) {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Stop(EXIT.USAGE, `${path} cannot be read: ${error.message}`);
  }
}
