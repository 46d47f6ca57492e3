/** What a node must be told when it leaves something to others, said at once and all together; needs no other server. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runCli } from '../support/satchel.ts'

const DATABASE = { SATCHEL_DATABASE_URL: 'postgres://satchel:hidden@127.0.0.1:1/satchel' }

const FAULTS: [role: string, env: Record<string, string>, missing: string[]][] = [
  ['worker', {}, ['SATCHEL_DATABASE_URL', 'SATCHEL_STORAGE_URL', 'SATCHEL_CDN_URL']],
  ['api', { ...DATABASE, SATCHEL_STORAGE_URL: 'file:/tmp/none' }, ['SATCHEL_CDN_URL']],
  ['edge', DATABASE, ['SATCHEL_STORAGE_URL']],
  ['edge,worker', { SATCHEL_DATABASE_URL: 'sqlite:/tmp/none' }, ['SATCHEL_DATABASE_URL', 'SATCHEL_STORAGE_URL']],
]

for (const [role, env, missing] of FAULTS) {
  test(`--role ${role} with ${Object.keys(env).join(' and ') || 'nothing'} names ${missing.join(', ')}`, async () => {
    const { code, stdout, stderr } = await runCli(['serve', '--role', role], env)
    assert.equal(code, 1)
    assert.equal(stdout, '')
    const named = stderr
      .trim()
      .split('\n')
      .map((line) => /^satchel: (\w+): must be .*--role/.exec(line)?.[1])
    assert.deepEqual(named, missing, stderr)
    assert.doesNotMatch(stderr, /hidden/)
  })
}

test('an unknown role is a wrong command line', async () => {
  const { code, stderr } = await runCli(['serve', '--role', 'api,master'])
  assert.equal(code, 2)
  assert.equal(stderr, 'satchel: --role takes api, edge, worker or all, with commas between several\n')
})

test('a database URL that is none is named without its password', async () => {
  for (const url of ['mysql://a:hidden@b/c', 'postgres://a:hidden@b', 'hidden']) {
    const { code, stderr } = await runCli(['migrate'], { SATCHEL_DATABASE_URL: url })
    assert.equal(code, 1)
    assert.match(stderr, /^satchel: SATCHEL_DATABASE_URL: must be sqlite:PATH or postgres:/)
    assert.doesNotMatch(stderr, /hidden/)
  }
})
