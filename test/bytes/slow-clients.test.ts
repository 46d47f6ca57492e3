/** Clients that are slow, silent or many: cut off in the end, and never in the way of others. */
import assert from 'node:assert/strict'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Server, startServer } from '../support/satchel.ts'
import { createText, dial, download, filesIn, put, textOf, until, uploadText, type Wire } from '../support/wire.ts'

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

async function linksOf(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}/fd`
  return await Promise.all((await readdir(folder)).map((name) => readlink(`${folder}/${name}`).catch(() => '')))
}

/** Whether the process has a stored file open (Linux). */
async function opensBelow(pid: number, folder: string): Promise<boolean> {
  return (await linksOf(pid)).some((target) => target.includes(folder))
}

/** How many of these connections the process has not closed (Linux). */
async function connectionsWith(pid: number, wires: readonly Wire[]): Promise<number> {
  const ports = new Set(wires.map(({ socket }) => socket.localPort))
  const table = (await readFile('/proc/net/tcp', 'utf8')).split('\n').slice(1)
  const sockets = new Set(await linksOf(pid))
  return table.filter((row) => {
    const columns = row.trim().split(/\s+/)
    const port = Number.parseInt(columns[2]?.split(':')[1] ?? '', 16)
    return ports.has(port) && sockets.has(`socket:[${columns[9]}]`)
  }).length
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

  test('a download that nobody takes is cut off after a minute, and its file is let go', async () => {
    const created = await uploadText(server.client(), textOf(16_000_000))
    const pid = server.process.pid ?? 0
    const { host, pathname } = new URL(created.download_url)
    const wires = await Promise.all(Array.from({ length: 5 }, () => dial(server.cdn)))
    for (const { socket } of wires) socket.pause()
    for (const wire of wires) await wire.head(`GET ${pathname}`, { Host: host })
    await until('all five are under way', async () => (await connectionsWith(pid, wires)) === 5)
    const began = Date.now()
    await until('the server has cut them off', async () => (await connectionsWith(pid, wires)) === 0, 150_000)
    const took = Date.now() - began
    for (const wire of wires) wire.socket.destroy()
    assert.ok(took > 50_000, `${took} ms`)
    await until('the file is closed', async () => !(await opensBelow(pid, '/objects/')), 20_000)
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
