// Calls of the learner: deadlines, credentials, and what to do about every status.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import { EXIT, Forgotten, log, Refused, RunChanged, Stop, VersionGone } from './exits.js';

const { status: Code } = grpc;

// The last three come from proxies and from servers that die.
const REPEATED = [
  'UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'INTERNAL',
  'CANCELLED',
  'UNKNOWN',
  'ABORTED',
];
// There is something left to do where one of these is refused.
const REFUSABLE = ['PushTrajectories', 'ReportEpisodes'];
const REFUSING = ['INVALID_ARGUMENT', 'RESOURCE_EXHAUSTED'];
const BY_REASON = {
  RUN_CHANGED: RunChanged,
  UNKNOWN_SAMPLER: Forgotten,
  VERSION_GONE: VersionGone,
};

const FIRST_PAUSE_MILLISECONDS = 100;
const LONGEST_PAUSE_MILLISECONDS = 1000;
const COMPLAIN_EVERY_MILLISECONDS = 10_000;
// A push that its deadline cuts off again and again over a slow network would never arrive.
const LONGEST_DEADLINE_FACTOR = 16;

/** The learner, over two connections: where a push takes long, pulls must not wait behind it. */
export class Calls {
  constructor(contract, options) {
    this.contract = contract;
    this.options = options;
    this.silentSince = null;
    this.complainedAt = -Infinity;
    this.use({ max_message_bytes: String(2 ** 26), push_deadline_milliseconds: 5000 });
  }

  /** Takes over the limits of GetRun: a channel's are fixed when it is opened. */
  use(limits) {
    this.close();
    this.limits = limits;
    this.narrow = this.open(0);
    this.wide = this.open(1);
  }

  open(ownConnection) {
    const { learner } = this.options;
    return new this.contract.LearnerService(learner, credentialsOf(this.options), {
      'grpc.max_receive_message_length': Math.min(this.limits.max_message_bytes, 2 ** 31 - 1),
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 1000,
      'grpc.keepalive_time_ms': 60_000,
      'grpc.use_local_subchannel_pool': ownConnection,
      // A proxy for the world outside must not stand between two processes of one machine.
      'grpc.enable_http_proxy': /^(localhost|127\.|\[::1\])/.test(learner) ? 0 : 1,
    });
  }

  close() {
    this.narrow?.close();
    this.wide?.close();
  }

  /**
   * The response to a call, repeated until there is a final answer; what is none is thrown.
   * `request` is asked anew for every attempt, `signal` calls it off.
   */
  async final(method, request, { milliseconds, signal }) {
    let pause = FIRST_PAUSE_MILLISECONDS;
    let limit = milliseconds ?? this.limits.push_deadline_milliseconds;
    const longest = LONGEST_DEADLINE_FACTOR * limit;
    let isRefreshed = false;
    for (;;) {
      try {
        const response = await this.once(method, request(), limit, signal);
        this.silentSince = null;
        return response;
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error.metadata instanceof grpc.Metadata)) throw error;
        const status = this.read(error);
        this.note(method, status);
        const end = endOf(method, status, isRefreshed);
        if (end) throw end;
        isRefreshed = status.code === 'UNAUTHENTICATED';
        if (status.code === 'DEADLINE_EXCEEDED') limit = Math.min(2 * limit, longest);
        await sleep(jittered(pause, status.retryMilliseconds), null, { signal });
        pause = Math.min(2 * pause, LONGEST_PAUSE_MILLISECONDS);
      }
    }
  }

  /** One attempt. */
  once(method, request, milliseconds, signal) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const client = method === 'PushTrajectories' ? this.wide : this.narrow;
      const options = { deadline: Date.now() + milliseconds };
      const call = client[method](request, new grpc.Metadata(), options, (error, response) => {
        signal?.removeEventListener('abort', cancel);
        if (error) reject(error);
        else resolve(response);
      });
      const cancel = () => call.cancel();
      signal?.addEventListener('abort', cancel);
    });
  }

  /** Code, message, reason and RetryInfo of a failed call. */
  read({ code, details: message, metadata }) {
    const read = { code: Code[code], message, reason: '', retryMilliseconds: null };
    const [packed] = metadata.get('grpc-status-details-bin');
    const details = packed ? this.contract.Status.deserialize(packed).details : [];
    for (const { type_url: type, value } of details) {
      if (type.endsWith('/google.rpc.ErrorInfo')) {
        const info = this.contract.ErrorInfo.deserialize(value);
        if (info.domain === 'wiserl') read.reason = info.reason;
      } else if (type.endsWith('/google.rpc.RetryInfo')) {
        const delay = this.contract.RetryInfo.deserialize(value).retry_delay;
        read.retryMilliseconds = Number(delay?.seconds ?? 0) * 1000 + (delay?.nanos ?? 0) / 1e6;
      }
    }
    return read;
  }

  /** Warns of failed calls, but not of every one; stops where nobody answers for too long. */
  note(method, { code, message, reason }) {
    const now = Date.now();
    const said = `${code} ${reason}: ${message}`;
    if (now - this.complainedAt >= COMPLAIN_EVERY_MILLISECONDS) {
      this.complainedAt = now;
      log('call_failed', { method, status: said });
    }
    const isSilence = !reason && ['UNAVAILABLE', 'DEADLINE_EXCEEDED'].includes(code);
    this.silentSince = isSilence ? (this.silentSince ?? now) : null;
    const { 'connect-timeout-seconds': patience, learner } = this.options;
    if (isSilence && patience > 0 && now - this.silentSince >= 1000 * patience) {
      throw new Stop(EXIT.UNREACHABLE, `no learner at ${learner} for ${patience} s (${said})`);
    }
  }
}

/** Half of a pause to all of it; of one that the learner tells, all of it to half more. */
function jittered(pause, told) {
  return told === null ? pause * (0.5 + Math.random() / 2) : told * (1 + Math.random() / 2);
}

/** The error that a status ends a call with, or null where it is to be repeated. */
function endOf(method, { code, message, reason, retryMilliseconds }, isRefreshed) {
  if (REPEATED.includes(code)) return null;
  if (code === 'RESOURCE_EXHAUSTED' && retryMilliseconds !== null) return null;
  // The token is read again for every attempt; one that was replaced just now is known next time.
  if (code === 'UNAUTHENTICATED' && !isRefreshed) return null;
  if (REFUSABLE.includes(method) && REFUSING.includes(code)) return new Refused(message);
  const Signal = BY_REASON[reason];
  if (Signal) return new Signal(message);
  return new Stop(EXIT.REFUSED, `${method}: ${code} ${reason}: ${message}`);
}

function credentialsOf(options) {
  const [authority, token, certificate, key] = [
    'tls-ca',
    'token-file',
    'tls-client-cert',
    'tls-client-key',
  ].map((name) => options[name]);
  if (!authority) return grpc.credentials.createInsecure();
  const own = certificate ? [read(key), read(certificate)] : [];
  const channel = grpc.credentials.createSsl(read(authority), ...own);
  if (!token) return channel;
  const withToken = grpc.credentials.createFromMetadataGenerator((_, done) => {
    try {
      const metadata = new grpc.Metadata();
      metadata.set('authorization', `Bearer ${String(read(token)).trim()}`);
      done(null, metadata);
    } catch (error) {
      done(error);
    }
  });
  return grpc.credentials.combineChannelCredentials(channel, withToken);
}

function read(path) {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Stop(EXIT.USAGE, `${path} cannot be read: ${error.message}`);
  }
}
