import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXIT } from '../src/exits.js';
import { help, parse } from '../src/options.js';

test('a flag wins over its variable, and that over the default', () => {
  const variables = { WISERL_LEARNER: 'learner:5555', WISERL_ENVS: '3', WISERL_TLS_CA: '' };
  const options = parse(['--envs', '5'], variables);
  assert.deepEqual(
    [options.learner, options.envs, options['tls-ca']],
    ['learner:5555', 5, undefined],
  );
  assert.equal(parse([], {})['connect-timeout-seconds'], 300);
});

test('help names every flag', () => {
  assert.equal(parse(['--help'], {}).help, true);
  for (const flag of ['learner', 'tls-ca', 'token-file', 'tls-client-cert'])
    assert.ok(help().includes(flag));
});

for (const [args, why] of [
  [['--learner', 'nowhere'], /HOST:PORT/],
  [['--envs', '0'], /from 1 on/],
  [['--envs', '1.5'], /whole/],
  [['--connect-timeout-seconds', 'soon'], /from 0 on/],
  [['--token-file', 'token'], /plain text/],
  [['--tls-ca', 'ca.pem', '--tls-client-cert', 'cert.pem'], /belong together/],
  [['--speed', '9'], /speed/],
]) {
  test(`${args.join(' ')} is refused`, () => {
    assert.throws(() => parse(args, {}), { exitCode: EXIT.USAGE, message: why });
  });
}
