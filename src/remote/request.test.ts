/** Posts to a misbehaving host on loopback, with TLS and without. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type HostileOrigin, openHostileOrigin } from '../../test/support/hostile-origin.ts'
import { parseEgressAllow } from './address.ts'
import type { Resolve } from './dial.ts'
import { RemoteError, type RemoteErrorKind } from './error.ts'
import type { PostOptions } from './post.ts'
import { createRemote, type Remote } from './request.ts'

const options: PostOptions = {
  headers: { 'content-type': 'application/json', 'webhook-id': 'evt_1' },
  body: Buffer.from('{"a":"ü"}'),
  timeoutMs: 30_000,
  maxResponseBytes: 1000,
}

/** Lookups that hang until the end, as undici would wait for them. */
const hanging: (() => void)[] = []

const resolve: Resolve = (hostname, _options, callback) => {
  const notFound = () => callback(Object.assign(new Error('not found'), { code: 'ENOTFOUND' }), [])
  if (hostname === 'unknown.test') notFound()
  else if (hostname === 'hangs.test') hanging.push(notFound)
  else callback(null, [{ address: '127.0.0.1', family: 4 }])
}

let secure: HostileOrigin
let plain: HostileOrigin
let remote: Remote

before(async () => {
  secure = await openHostileOrigin()
  plain = await openHostileOrigin({ plain: true })
  const allow = parseEgressAllow(`localhost:${secure.port}, localhost:${plain.port}, shut.test:*`)
  remote = createRemote({ allow, userAgent: 'Satchel/test', resolve, ca: secure.ca })
})

after(async () => {
  for (const end of hanging) end()
  await remote[Symbol.asyncDispose]()
  await Promise.all([secure, plain].map((origin) => origin[Symbol.asyncDispose]()))
})

const fails = (url: string, kind: RemoteErrorKind, o: Partial<PostOptions> = {}) =>
  assert.rejects(remote.post(url, { ...options, ...o }), (error) => {
    assert.ok(error instanceof RemoteError, String(error))
    assert.equal(error.kind, kind)
    assert.doesNotMatch(error.message, /\d+\.\d+\.\d+\.\d+|localhost|\.test/)
    return true
  })

describe('post', () => {
  test('sends the bytes and headers given, and a user agent', async () => {
    for (const origin of [secure, plain]) {
      const result = await remote.post(origin.url('/status/200?a=b'), options)
      assert.equal(result.status, 200)
      assert.ok(result.ms > 0)
      const { method, path, headers, body } = origin.requests.at(-1) ?? assert.fail()
      assert.deepEqual([method, path], ['POST', '/status/200?a=b'])
      assert.deepEqual(body, options.body)
      assert.deepEqual(headers, {
        host: `localhost:${origin.port}`,
        connection: 'keep-alive',
        'user-agent': 'Satchel/test',
        'content-type': 'application/json',
        'webhook-id': 'evt_1',
        'content-length': '10',
      })
    }
  })

  test('returns any status, follows no redirect and passes Retry-After on', async () => {
    for (const status of [204, 301, 302, 307, 400, 404, 410, 500])
      assert.equal((await remote.post(secure.url(`/status/${status}`), options)).status, status)
    const before = secure.requests.length
    assert.equal((await remote.post(secure.url('/redirect/1'), options)).status, 302)
    assert.equal(secure.requests.length, before + 1)
    const { status, headers } = await remote.post(secure.url('/status/429?retry-after=7&x-other=1'), options)
    assert.deepEqual([status, headers], [429, { 'retry-after': '7' }])
  })

  test('keeps one connection for answers within the limit and drops it beyond', async () => {
    await remote.post(plain.url('/file?bytes=1000'), options)
    const before = plain.sockets.size
    for (let i = 0; i < 5; i++) {
      // The connection is free again a moment after the answer has ended.
      await sleep(10)
      await remote.post(plain.url('/file?bytes=1000'), options)
    }
    assert.equal(plain.sockets.size, before)
    await sleep(10)
    assert.equal((await remote.post(plain.url('/endless'), options)).status, 200)
    for (let i = 0; i < 500 && plain.sockets.size >= before; i++) await sleep(10)
    assert.ok(plain.sockets.size < before)
  })

  test('counts a status as an answer even if the body breaks off, lies or stalls', async () => {
    for (const path of ['/cut', '/short', '/gzip'])
      assert.equal((await remote.post(plain.url(path), options)).status, 200, path)
    for (const path of ['/stall-body', '/drip'])
      assert.equal((await remote.post(plain.url(path), { ...options, timeoutMs: 500 })).status, 200, path)
  })

  test('tells apart why there was no answer', async () => {
    await fails('https://unknown.test/', 'dns')
    await fails(plain.url('/stall'), 'timeout', { timeoutMs: 300 })
    await fails('https://hangs.test/', 'timeout', { timeoutMs: 300 })
    await fails(plain.url('/reset'), 'network')
    await fails(plain.url('/garbage'), 'network')
    await fails(plain.url('/huge-headers'), 'network')
    await fails(plain.url('/').replace('http:', 'https:'), 'tls')
    await fails(`https://shut.test:${secure.port}/`, 'tls')
    const gone = await openHostileOrigin({ plain: true })
    await gone[Symbol.asyncDispose]()
    await fails(gone.url('/', 'shut.test'), 'refused')
  })

  test('is forbidden where nothing is open', async () => {
    for (const url of [
      'https://elsewhere.test/',
      `http://127.0.0.1:${plain.port}/`,
      `https://127.0.0.1:${secure.port}/`,
      'https://169.254.169.254/',
      'https://[::1]/',
      'ftp://localhost/',
      'file:///etc/passwd',
      'not a url',
      plain.url('/').replace('localhost', 'user:pass@localhost'),
    ])
      await fails(url, 'forbidden')
  })

  test('in plain http is forbidden even to public addresses unless they are listed', async () => {
    await fails('http://8.8.8.8/', 'forbidden')
    await using some = createRemote({
      allow: parseEgressAllow('127.0.0.0/8'),
      userAgent: 'x',
      resolve: (_hostname, _options, callback) => callback(null, [{ address: '8.8.8.8', family: 4 }]),
    })
    await assert.rejects(some.post('http://public.test/', options), { kind: 'forbidden' })
    assert.equal((await some.post(`http://127.0.0.1:${plain.port}/status/200`, options)).status, 200)
  })

  test('gives the reason of the signal that broke it off', async () => {
    for (const url of [plain.url('/stall'), 'https://hangs.test/']) {
      const controller = new AbortController()
      const reason = new Error('shutting down')
      setTimeout(() => controller.abort(reason), 50)
      await assert.rejects(remote.post(url, { ...options, signal: controller.signal }), (error) => error === reason)
    }
  })
})
