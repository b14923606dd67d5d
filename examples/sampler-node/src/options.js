// The flags; each is also a variable WISERL_<FLAG>, and the flag wins.
// docs/writing-a-sampler.md: "Security"; the rest is this sampler's own.

import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { EXIT, Stop } from './exits.js';

const FLAGS = {
  learner: ['HOST:PORT where the learner serves', '127.0.0.1:5555'],
  envs: ['environment copies (slots)', '8'],
  name: ['what people see this sampler as', hostname()],
  'tls-ca': ['PEM of the authority whose certificate the learner must have'],
  'token-file': ['file of the token that the learner knows this sampler by'],
  'tls-client-cert': ["PEM of a certificate of this sampler's own (mutual TLS)"],
  'tls-client-key': ['PEM of its private key'],
  'connect-timeout-seconds': ['stop when no learner was heard of for so long; 0 never', '300'],
};

/** What `--help` prints. */
export function help() {
  const lines = Object.entries(FLAGS).map(([name, [text, usual]]) => {
    return `  --${name.padEnd(24)} ${text}${usual ? ` (${usual})` : ''}`;
  });
  return `Rolls CartPole for a WiseRL learner.\n\n${lines.join('\n')}\n`;
}

/** The options of a command line by the flags' names; `help` is true where it asks for that. */
export function parse(args, variables = process.env) {
  const options = { help: { type: 'boolean' } };
  for (const [name, [, usual]] of Object.entries(FLAGS)) {
    const variable = `WISERL_${name.toUpperCase().replaceAll('-', '_')}`;
    options[name] = { type: 'string', default: variables[variable] || usual };
  }
  try {
    return checked(parseArgs({ args, options }).values);
  } catch (error) {
    throw new Stop(EXIT.USAGE, error.message);
  }
}

function checked(values) {
  const envs = Number(values.envs);
  const seconds = Number(values['connect-timeout-seconds']);
  const need = (isRight, name, why) => {
    if (!isRight) throw new RangeError(`--${name} is ${values[name]}; ${why}`);
  };
  need(/^.+:\d+$/.test(values.learner), 'learner', 'give HOST:PORT');
  need(Number.isInteger(envs) && envs > 0, 'envs', 'give a whole number from 1 on');
  need(seconds >= 0, 'connect-timeout-seconds', 'give a number from 0 on');
  for (const name of ['token-file', 'tls-client-cert']) {
    const why = 'it would travel in plain text; say by --tls-ca whom to send it to';
    need(!values[name] || values['tls-ca'], name, why);
  }
  const isPair = !values['tls-client-cert'] === !values['tls-client-key'];
  need(isPair, 'tls-client-cert', 'it and --tls-client-key belong together');
  return { ...values, envs, 'connect-timeout-seconds': seconds };
}
