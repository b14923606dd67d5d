// The flags; each is also a variable WISERL_<FLAG>, and the flag wins.

import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { CONTRACT_PROTOS } from './contract.js';
import { EXIT, Stop } from './exits.js';

const FLAGS = {
  learner: ['HOST:PORT where the learner serves', '127.0.0.1:5555'],
  envs: ['environment copies (slots)', '8'],
  name: ['what people see this sampler as', hostname()],
  'tls-ca': ['PEM of the authority whose certificate the learner must have'],
  'token-file': ['file of the token that the learner knows this sampler by'],
  'tls-client-cert': ["PEM of a certificate of this sampler's own (mutual TLS)"],
  'tls-client-key': ['PEM of its private key'],
  'connect-timeout-seconds': ['stop when no learner was heard of for so long', '300'],
  protos: ['folder that holds wiserl/v1/*.proto', CONTRACT_PROTOS],
};

/** What `--help` prints. */
export function help() {
  const lines = Object.entries(FLAGS).map(([name, [text, value]]) => {
    return `  --${name.padEnd(24)} ${text}${value ? ` (${value})` : ''}`;
  });
  return `Rolls CartPole for a WiseRL learner.\n\n${lines.join('\n')}\n`;
}

/** The options of a command line by the flags' names, or null where it asks for help. */
export function parse(args, variables = process.env) {
  const types = Object.keys(FLAGS).map((name) => [name, { type: 'string' }]);
  let given;
  try {
    const options = { ...Object.fromEntries(types), help: { type: 'boolean' } };
    given = parseArgs({ args, options }).values;
  } catch (error) {
    throw new Stop(EXIT.USAGE, error.message);
  }
  if (given.help) return null;
  const found = {};
  for (const [name, [, usual]] of Object.entries(FLAGS)) {
    const variable = `WISERL_${name.toUpperCase().replaceAll('-', '_')}`;
    found[name] = given[name] ?? (variables[variable] || usual);
  }
  check(found);
  for (const name of ['envs', 'connect-timeout-seconds']) found[name] = Number(found[name]);
  return found;
}

function check(found) {
  const seconds = 'connect-timeout-seconds';
  const refuse = (name, why) => {
    throw new Stop(EXIT.USAGE, `--${name} is ${found[name]}; ${why}`);
  };
  if (!/^.+:\d+$/.test(found.learner)) refuse('learner', 'give HOST:PORT');
  if (!/^[1-9]\d*$/.test(found.envs)) refuse('envs', 'give a whole number from 1 on');
  if (!(Number(found[seconds]) >= 0)) refuse(seconds, 'give a number from 0 on');
  for (const name of ['token-file', 'tls-client-cert']) {
    if (found[name] && !found['tls-ca']) {
      refuse(name, 'it would travel in plain text; say by --tls-ca whom to send it to');
    }
  }
  if (!found['tls-client-cert'] !== !found['tls-client-key']) {
    refuse('tls-client-cert', 'it and --tls-client-key belong together');
  }
}
