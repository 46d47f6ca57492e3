/** A client that never comes to an end is told so after ten seconds, and is not kept. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startServer } from '../support/satchel.ts'
import { dial } from '../support/wire.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())

test('headers that trickle in for ever are answered with 408, and the connection is cut', async () => {
  using wire = await dial(server.api)
  const limit = Date.now() + 30_000
  await wire.write('GET /v3/chats HTTP/1.1\r\nX: ')
  while (await wire.write('x')) {
    assert.ok(Date.now() < limit, 'still connected after 30 seconds')
    await sleep(100)
  }
  const { status, body } = await wire.reply()
  assert.deepEqual([status, JSON.parse(body.toString()).error.code], [408, 1003])
})
