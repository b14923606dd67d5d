// Calls of the learner: deadlines, credentials, and what to do about every status.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import { EXIT, Forgotten, log, Refused, RunChanged, Stop, VersionGone } from './exits.js';

const { status: Code } = grpc;

// CANCELLED, UNKNOWN and ABORTED come from proxies and from servers that die.
const REPEATED = new Set([
  Code.UNAVAILABLE,
  Code.DEADLINE_EXCEEDED,
  Code.INTERNAL,
  Code.CANCELLED,
  Code.UNKNOWN,
  Code.ABORTED,
]);
// There is something left to do where one of these is refused.
const REFUSABLE = new Set(['PushTrajectories', 'ReportEpisodes']);
const REFUSING = new Set([Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED]);
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
    const bytes = Math.min(Number(this.limits.max_message_bytes), 2 ** 31 - 1);
    return new this.contract.LearnerService(learner, credentialsOf(this.options), {
      'grpc.max_receive_message_length': bytes,
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
  async final(method, request, { milliseconds = null, signal }) {
    let pause = FIRST_PAUSE_MILLISECONDS;
    let factor = 1;
    let refreshed = false;
    for (;;) {
      const limit = factor * (milliseconds ?? this.limits.push_deadline_milliseconds);
      try {
        const response = await this.once(method, request(), limit, signal);
        this.silentSince = null;
        return response;
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error.metadata instanceof grpc.Metadata)) throw error;
        const status = this.read(error);
        this.note(method, status);
        const decided = decide(method, status, refreshed);
        if (decided) throw decided;
        refreshed = status.code === Code.UNAUTHENTICATED;
        if (status.code === Code.DEADLINE_EXCEEDED) {
          factor = Math.min(2 * factor, LONGEST_DEADLINE_FACTOR);
        }
        const told = status.retryMilliseconds;
        await sleep(
          told === null ? pause * (0.5 + Math.random() / 2) : told * (1 + Math.random() / 2),
          undefined,
          { signal },
        );
        if (told === null) pause = Math.min(2 * pause, LONGEST_PAUSE_MILLISECONDS);
      }
    }
  }

  /** One attempt. */
  once(method, request, milliseconds, signal) {
    const { path, requestSerialize, responseDeserialize } =
      this.contract.LearnerService.service[method];
    const bytes = requestSerialize(request);
    if (bytes.length > Number(this.limits.max_message_bytes)) {
      const { max_message_bytes: most } = this.limits;
      const text = `a request of ${bytes.length} bytes, and the learner takes ${most} (max_message_bytes)`;
      return Promise.reject(new Refused(text, { tooLarge: true, sent: false }));
    }
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const client = method === 'PushTrajectories' ? this.wide : this.narrow;
      const options = { deadline: Date.now() + milliseconds };
      const call = client.makeUnaryRequest(
        ...[path, (sent) => sent, responseDeserialize, bytes, new grpc.Metadata(), options],
        (error, response) => {
          signal?.removeEventListener('abort', cancel);
          if (error) reject(error);
          else resolve(response);
        },
      );
      const cancel = () => call.cancel();
      signal?.addEventListener('abort', cancel);
    });
  }

  /** Code, message, reason and RetryInfo of a failed call. */
  read(error) {
    const read = { code: error.code, message: error.details, reason: '', retryMilliseconds: null };
    const [packed] = error.metadata?.get('grpc-status-details-bin') ?? [];
    if (!packed) return read;
    for (const { type_url: type, value } of this.contract.Status.deserialize(packed).details) {
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
    const said = `${Code[code]} ${reason}: ${message}`;
    if (now - this.complainedAt >= COMPLAIN_EVERY_MILLISECONDS) {
      this.complainedAt = now;
      log('call_failed', { method, status: said });
    }
    if (reason || (code !== Code.UNAVAILABLE && code !== Code.DEADLINE_EXCEEDED)) {
      this.silentSince = null;
      return;
    }
    this.silentSince ??= now;
    const { connectTimeoutSeconds: patience, learner } = this.options;
    if (patience > 0 && now - this.silentSince >= 1000 * patience) {
      throw new Stop(EXIT.UNREACHABLE, `no learner at ${learner} for ${patience} s (${said})`);
    }
  }
}

/** What a status means for the call: an error to throw, or null where it is to be repeated. */
function decide(method, { code, message, reason, retryMilliseconds }, refreshed) {
  if (REPEATED.has(code)) return null;
  if (code === Code.RESOURCE_EXHAUSTED && retryMilliseconds !== null) return null;
  // The token is read again for every attempt; one that was replaced just now is known next time.
  if (code === Code.UNAUTHENTICATED && !refreshed) return null;
  if (REFUSABLE.has(method) && REFUSING.has(code)) {
    return new Refused(message, { tooLarge: code === Code.RESOURCE_EXHAUSTED });
  }
  const Signal = BY_REASON[reason];
  if (Signal) return new Signal(message);
  return new Stop(EXIT.REFUSED, `${method}: ${Code[code]} ${reason}: ${message}`);
}

function credentialsOf({ tlsCa, tlsClientCert, tlsClientKey, tokenFile }) {
  if (!tlsCa) return grpc.credentials.createInsecure();
  const own = tlsClientCert ? [read(tlsClientKey), read(tlsClientCert)] : [];
  const channel = grpc.credentials.createSsl(read(tlsCa), ...own);
  if (!tokenFile) return channel;
  const token = grpc.credentials.createFromMetadataGenerator((_, done) => {
    try {
      const metadata = new grpc.Metadata();
      metadata.set('authorization', `Bearer ${String(read(tokenFile)).trim()}`);
      done(null, metadata);
    } catch (error) {
      done(error);
    }
  });
  return grpc.credentials.combineChannelCredentials(channel, token);
}

function read(path) {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Stop(EXIT.USAGE, `${path} cannot be read: ${error.message}`);
  }
}
