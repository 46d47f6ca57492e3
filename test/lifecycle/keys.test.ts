/** Replacing an API key while callers call. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { runCli, startServer } from '../support/satchel.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const cli = (...args: string[]) => runCli(args, server.env)
const status = async (apiKey: string) => (await server.call('/v3/phone_numbers', { apiKey })).status

test('both keys work until the old one is revoked, and the last one cannot be', async () => {
  const [partner = ''] = (await cli('partners', 'list')).stdout.split(' ')
  const [, old = ''] = /^([0-9a-f]{12}) /.exec((await cli('keys', 'list', partner)).stdout) ?? []
  const only = await cli('keys', 'revoke', partner, old)
  assert.deepEqual([only.code, only.stderr], [1, 'satchel: it is the only key of this partner; nothing was revoked\n'])
  const made = await cli('keys', 'create', partner)
  const [, key = ''] = /API key\s+(satchel_\S+)/.exec(made.stdout) ?? []
  assert.deepEqual([await status(server.apiKey), await status(key)], [200, 200])
  // A key that is used all the time ends with the command as well.
  let revoking = true
  const calling = (async () => {
    while (revoking) await status(server.apiKey)
  })()
  assert.equal((await cli('keys', 'revoke', partner, old)).code, 0)
  assert.deepEqual([await status(server.apiKey), await status(key)], [401, 200])
  revoking = false
  await calling
  assert.equal((await cli('keys', 'list', partner)).stdout.split('\n').length, 2)
})

test('what does not exist is refused', async () => {
  assert.equal((await cli('keys', 'create', 'nobody')).code, 1)
  assert.equal((await cli('keys', 'revoke', 'nobody')).code, 2)
})
