/** A download whose stored object is not what its row says: only a connection that breaks off can tell the client. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import type { OpenObject } from '../storage/storage.ts'
import { send } from './send.ts'

const PROMISED = 100
const HELD = Buffer.alloc(10, 'x')

const inMemory: OpenObject = { size: HELD.length, bytes: HELD, read: async () => 0, [Symbol.dispose]() {} }
const byPieces: OpenObject = {
  ...inMemory,
  bytes: undefined,
  read: async (buffer, position) => HELD.copy(buffer, 0, position),
}

for (const [about, object] of [
  ['in memory', inMemory],
  ['read by pieces', byPieces],
] as const) {
  test(`an object ${about} that is too short cuts its download off`, async () => {
    const sent = Promise.withResolvers<unknown>()
    const server = createServer((request, response) => {
      response.writeHead(200, { 'content-length': String(PROMISED) })
      send(response, request.socket, object, { start: 0, end: PROMISED - 1 }).then(
        () => sent.resolve(undefined),
        sent.resolve,
      )
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    try {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
      const download = async () => (await fetch(url, { signal: AbortSignal.timeout(5_000) })).arrayBuffer()
      await assert.rejects(download(), (error: Error) => error.name !== 'TimeoutError')
      assert.match(String(await sent.promise), /shorter than it was/)
    } finally {
      server.close()
    }
  })
}
