// The flags; each is also a variable WISERL_<FLAG>, and the flag wins.

import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { CONTRACT_PROTOS } from './contract.js';
import { EXIT, Stop } from './exits.js';

const FLAGS = {
  learner: { value: '127.0.0.1:5555', help: 'HOST:PORT where the learner serves' },
  envs: { value: '8', help: 'environment copies (slots)' },
  name: { value: hostname(), help: 'what people see this sampler as' },
  'tls-ca': { help: 'PEM of the authority whose certificate the learner must have' },
  'token-file': { help: 'file of the token that the learner knows this sampler by' },
  'tls-client-cert': { help: "PEM of a certificate of this sampler's own (mutual TLS)" },
  'tls-client-key': { help: 'PEM of its private key' },
  'connect-timeout-seconds': {
    value: '300',
    help: 'stop when no learner was heard of for so long',
  },
  protos: { value: CONTRACT_PROTOS, help: 'folder that holds wiserl/v1/*.proto' },
};

/** What `--help` prints. */
export function help() {
  const lines = Object.entries(FLAGS).map(
    ([name, { value, help: text }]) =>
      `  --${name.padEnd(24)} ${text}${value ? ` (${value})` : ''}`,
  );
  return `Rolls CartPole for a WiseRL learner.\n\n${lines.join('\n')}\n`;
}

/** The options of a command line, or null where it asks for help. */
export function parse(args, variables = process.env) {
  const options = { help: { type: 'boolean' } };
  for (const name of Object.keys(FLAGS)) options[name] = { type: 'string' };
  let given;
  try {
    given = parseArgs({ args, options }).values;
  } catch (error) {
    throw new Stop(EXIT.USAGE, error.message);
  }
  if (given.help) return null;
  const of = (name) =>
    given[name] ??
    (variables[`WISERL_${name.toUpperCase().replaceAll('-', '_')}`] || FLAGS[name].value);
  if (!/^.+:\d+$/.test(of('learner'))) {
    throw new Stop(EXIT.USAGE, `--learner is ${of('learner')}; give HOST:PORT`);
  }
  for (const name of ['token-file', 'tls-client-cert']) {
    if (of(name) && !of('tls-ca')) {
      throw new Stop(
        EXIT.USAGE,
        `--${name} would travel in plain text; say by --tls-ca whom to send it to`,
      );
    }
  }
  if (!of('tls-client-cert') !== !of('tls-client-key')) {
    throw new Stop(
      EXIT.USAGE,
      '--tls-client-cert and --tls-client-key belong together; give both or neither',
    );
  }
  return {
    learner: of('learner'),
    envs: number(of('envs'), 'envs', 1, true),
    name: of('name'),
    tlsCa: of('tls-ca'),
    tokenFile: of('token-file'),
    tlsClientCert: of('tls-client-cert'),
    tlsClientKey: of('tls-client-key'),
    connectTimeoutSeconds: number(of('connect-timeout-seconds'), 'connect-timeout-seconds', 0),
    protos: of('protos'),
  };
}

function number(text, name, least, whole = false) {
  const value = Number(text);
  if (!(value >= least) || (whole && !Number.isInteger(value))) {
    const kind = whole ? 'a whole number' : 'a number';
    throw new Stop(EXIT.USAGE, `--${name} is ${text}; give ${kind} from ${least} on`);
  }
  return value;
}
