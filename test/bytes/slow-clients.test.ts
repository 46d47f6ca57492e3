/** Clients that are slow, silent or many: cut off in the end, and never in the way of others. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Server, startServer } from '../support/satchel.ts'
import { createText, dial, download, filesIn, put, textOf, uploadText, type Wire } from '../support/wire.ts'

let server: Server
before(async () => {
  server = await startServer()
})
after(() => server[Symbol.asyncDispose]())

/** How long until the other side closed, in ms; fails when it did not. */
async function closedAfter(wire: Wire, limitMs: number): Promise<number> {
  const began = Date.now()
  const late = new AbortController()
  await Promise.race([
    wire.closed,
    sleep(limitMs, undefined, { signal: late.signal }).then(() => assert.fail('still open')),
  ])
  late.abort()
  return Date.now() - began
}

describe('side by side', { concurrency: true }, () => {
  test('headers that drip in are cut off after ten seconds, on both ports', async () => {
    await Promise.all(
      [server.api, server.cdn].map(async (origin) => {
        using wire = await dial(origin)
        await wire.write('GET /healthz HTTP/1.1\r\nHost: x\r\n')
        let isOver = false
        const dripping = (async () => {
          while (!isOver && (await wire.write('X-Drip: 1\r\n'))) await sleep(500)
        })()
        const took = await closedAfter(wire, 20_000)
        isOver = true
        await dripping
        assert.ok(took > 8_000, `${took} ms`)
        assert.match(wire.heard, /^HTTP\/1\.1 408 .*\r\n/)
        assert.match(wire.heard, /X-Trace-ID: [0-9a-f]{32}\r\n/)
      }),
    )
  })

  test('a connection that says nothing is cut off', async () => {
    using wire = await dial(server.cdn)
    await closedAfter(wire, 20_000)
  })

  test('an upload that stalls is cut off after a minute, leaves nothing, and may be repeated', async () => {
    const bytes = textOf(100_000)
    const created = await createText(server.client(), bytes.length)
    using wire = await dial(server.cdn)
    const { host, pathname, search } = new URL(created.upload_url)
    await wire.head(`PUT ${pathname}${search}`, { Host: host, ...created.required_headers })
    await wire.write(bytes.subarray(0, 60_000))
    const took = await closedAfter(wire, 75_000)
    assert.ok(took > 50_000, `${took} ms`)
    await sleep(200)
    assert.deepEqual(await filesIn(server.dataDir, 'files/tmp'), [])
    assert.equal((await put(created, new Uint8Array(bytes))).status, 200)
  })

  test('an upload that drips on is let be', async () => {
    const bytes = textOf(60)
    const created = await createText(server.client(), bytes.length)
    using wire = await dial(server.cdn)
    const { host, pathname, search } = new URL(created.upload_url)
    await wire.head(`PUT ${pathname}${search}`, { Host: host, ...created.required_headers })
    for (const byte of bytes) {
      assert.ok(await wire.write(Uint8Array.of(byte)))
      await sleep(500)
    }
    assert.equal((await wire.reply()).status, 200)
    assert.deepEqual(await download(created.download_url), bytes)
  })

  test('500 idle connections on each port do not stop others', async () => {
    const idle = await Promise.all(Array.from({ length: 1000 }, (_, i) => dial(i % 2 === 0 ? server.api : server.cdn)))
    const began = Date.now()
    const created = await uploadText(server.client(), textOf(1_000_000))
    assert.equal((await download(created.download_url)).length, 1_000_000)
    assert.ok(Date.now() - began < 5_000)
    for (const wire of idle) wire.socket.destroy()
  })

  test('half a request line, rubbish, and a TLS hello are answered with 400 or closed, and harm nobody', async () => {
    for (const text of [
      'G',
      'rubbish\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\x00',
      'GET / HTTP/9.9\r\n\r\n',
      '\r\n\r\n\r\n',
    ]) {
      using wire = await dial(server.cdn)
      await wire.write(text)
      wire.socket.end()
      await closedAfter(wire, 20_000)
      assert.match(wire.heard, /^$|^HTTP\/1\.1 (400|505) /)
    }
    assert.equal((await fetch(`${server.api}/healthz`)).status, 200)
  })
})
