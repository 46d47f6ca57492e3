/** Downloads from a misbehaving host on loopback. Its names are resolved by a double, so nothing leaves this machine. */
import assert from 'node:assert/strict'
import type { LookupAddress } from 'node:dns'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeCertificates } from '../../test/support/certificates.ts'
import { type HostileOrigin, openHostileOrigin } from '../../test/support/hostile-origin.ts'
import { Failure, type FailureName } from '../failure.ts'
import { parseEgressAllow } from './address.ts'
import type { Resolve } from './dial.ts'
import type { DownloadOptions } from './download.ts'
import { createRemote, type Remote } from './request.ts'

const LIMIT = 100_000
/** Long enough for a busy machine; only tests that wait for the deadline use less. */
const options: DownloadOptions = { maxBytes: LIMIT, timeoutMs: 30_000, field: 'message.parts[0].url' }

const HOSTS: Record<string, string[]> = {
  'origin.test': ['127.0.0.1'],
  'other.test': ['127.0.0.1'],
  'loopback.test': ['127.0.0.1'],
  'metadata.test': ['169.254.169.254'],
  'mixed.test': ['10.0.0.1', 'fe80::1', '::ffff:127.0.0.1'],
  'half-open.test': ['10.0.0.1', '127.0.0.1'],
}
let lookups: string[] = []
/** Lookups that hang until the end, as undici would wait for them. */
const hanging: (() => void)[] = []

const resolve: Resolve = (hostname, _options, callback) => {
  lookups.push(hostname)
  const addresses = HOSTS[hostname.replace(/\.$/, '')]
  const notFound = () =>
    callback(Object.assign(new Error('not found'), { code: 'ENOTFOUND', syscall: 'getaddrinfo' }), [])
  if (addresses) callback(null, addresses.map(toLookupAddress))
  else if (hostname === 'hangs.test') hanging.push(notFound)
  else notFound()
}
const toLookupAddress = (address: string): LookupAddress => ({ address, family: address.includes(':') ? 6 : 4 })

let origin: HostileOrigin
let remote: Remote

before(async () => {
  const names = ['origin.test', 'other.test', 'half-open.test', 'rebind.test']
  origin = await openHostileOrigin({ names })
  const { port } = origin
  remote = createRemote({
    allow: parseEgressAllow(`origin.test:${port}, other.test:${port}`),
    userAgent: 'Satchel/test',
    resolve,
    ca: origin.ca,
  })
})

after(async () => {
  for (const end of hanging) end()
  await remote[Symbol.asyncDispose]()
  await origin[Symbol.asyncDispose]()
})

const at = (path: string) => origin.url(path, 'origin.test')
const fetched = async (path: string, o: Partial<DownloadOptions> = {}) => {
  const { body, ...rest } = await remote.download(at(path), { ...options, ...o })
  return { ...rest, body: await buffer(body) }
}

/** Asserts the Failure of a download, wherever it strikes, and that its message gives nothing away. */
async function refused(url: string, failure: FailureName, message: RegExp, o: Partial<DownloadOptions> = {}) {
  const attempt = remote.download(url, { ...options, ...o }).then(({ body }) => buffer(body))
  await assert.rejects(attempt, (error) => {
    assert.ok(error instanceof Failure, String(error))
    assert.equal(error.failure, failure, error.message)
    assert.match(error.message, /^message\.parts\[0\]\.url /)
    assert.match(error.message, message)
    assert.doesNotMatch(error.message, /\d+\.\d+\.\d+\.\d+|::|127|secret|explanation|origin\.test/)
    return true
  })
}

describe('a good file', () => {
  test('arrives with what the host said of it', async () => {
    const { body, ...rest } = await fetched('/file?bytes=5000&type=text/csv;%20header=present')
    assert.equal(body.length, 5000)
    assert.deepEqual(rest, {
      status: 200,
      contentType: 'text/csv; header=present',
      contentLength: 5000,
      finalUrl: at('/file?bytes=5000&type=text/csv;%20header=present'),
    })
  })

  test('may have exactly the limit, announced or not', async () => {
    assert.equal((await fetched(`/file?bytes=${LIMIT}`)).body.length, LIMIT)
    const { contentLength, body } = await fetched(`/file?bytes=${LIMIT}&chunked=1`)
    assert.deepEqual([contentLength, body.length], [undefined, LIMIT])
  })

  test('is asked for with nothing of ours but a name', async () => {
    await fetched('/file', { accept: 'image/*' })
    const { method, headers } = origin.requests.at(-1) ?? assert.fail()
    assert.equal(method, 'GET')
    assert.deepEqual(headers, {
      host: `origin.test:${origin.port}`,
      connection: 'keep-alive',
      'user-agent': 'Satchel/test',
      accept: 'image/*',
      'accept-encoding': 'identity',
    })
  })

  test('comes over one connection when asked for one after the other', async () => {
    await fetched('/file')
    const before = origin.sockets.size
    const lookupsBefore = lookups.length
    for (let i = 0; i < 5; i++) await fetched('/file')
    assert.equal(origin.sockets.size, before)
    assert.equal(lookups.length, lookupsBefore)
  })
})

describe('the URL', () => {
  for (const [url, message] of [
    ['http://origin.test/', /must be an https URL/],
    ['ftp://origin.test/', /must be an https URL/],
    ['file:///etc/passwd', /must be an https URL/],
    ['data:text/plain,x', /must be an https URL/],
    ['not a url', /is not a valid URL/],
    ['', /is not a valid URL/],
    ['https://', /is not a valid URL/],
    ['//origin.test/', /is not a valid URL/],
    ['https://origin.test:99999/', /is not a valid URL/],
    ['https://user:secret@origin.test/', /must not contain a user name/],
    ['https://secret@origin.test/', /must not contain a user name/],
  ] as const)
    test(`${url || 'empty'} is refused`, () => refused(url, 'bad_parameter', message))
})

describe('an address that is not public is refused before anything is dialled', () => {
  const literals = [
    '127.0.0.1',
    '127.1',
    '127.0.1',
    '0x7f.1',
    '0x7f000001',
    '2130706433',
    '0177.0.0.1',
    '017700000001',
    '１２７.０.０.１',
    '127。0。0。1',
    '127.0.0.1.',
    '0.0.0.0',
    '0',
    '10.0.0.1',
    '100.64.0.1',
    '168.63.129.16',
    '169.254.169.254',
    '0xa9fea9fe',
    '172.16.0.1',
    '192.168.0.1',
    '198.18.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '[::]',
    '[::1]',
    '[0:0:0:0:0:0:0:1]',
    '[::127.0.0.1]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[::FFFF:169.254.169.254]',
    '[64:ff9b::7f00:1]',
    '[64:ff9b::127.0.0.1]',
    '[64:ff9b:1::7f00:1]',
    '[2002:7f00:1::]',
    '[2001:0:1::1]',
    '[fd00:ec2::254]',
    '[fe80::1]',
    '[fec0::1]',
    '[ff02::1]',
  ]
  for (const host of literals)
    test(`https://${host}/`, async () => {
      lookups = []
      await refused(`https://${host}:${origin.port}/file`, 'bad_parameter', /must lead to a public address$/)
      assert.deepEqual(lookups, [])
    })

  for (const host of ['loopback.test', 'LOOPBACK.test', 'loopback.test.', 'metadata.test', 'mixed.test'])
    test(`the name ${host}`, async () => {
      const requests = origin.requests.length
      await refused(`https://${host}:${origin.port}/file`, 'bad_parameter', /must lead to a public address$/)
      assert.equal(origin.requests.length, requests)
    })

  test('localhost, by the resolver of the system', async () => {
    await using plain = createRemote({ allow: parseEgressAllow(''), userAgent: 'x', ca: origin.ca })
    for (const host of ['localhost', 'LocalHost'])
      await assert.rejects(plain.download(origin.url('/file', host), options), { failure: 'bad_parameter' })
  })

  test('an allowed host on another port', () => refused('https://origin.test:1/', 'bad_parameter', /public address/))

  test('says the same whether the port is open or not', async () => {
    const messages = await Promise.all(
      [origin.port, 1].map((port) =>
        remote.download(`https://loopback.test:${port}/`, options).then(
          () => 'none',
          (error: Error) => error.message,
        ),
      ),
    )
    assert.match(messages[0] ?? '', /public address$/)
    assert.equal(messages[0], messages[1])
  })
})

describe('the allow list', () => {
  const opened = async (list: string, url: string, o: { resolve?: Resolve } = {}) => {
    await using some = createRemote({ allow: parseEgressAllow(list), userAgent: 'x', resolve, ca: origin.ca, ...o })
    const { body } = await some.download(url, options)
    return (await buffer(body)).length
  }

  test('opens a literal, a host with any port, and a network', async () => {
    assert.equal(await opened(`127.0.0.1:${origin.port}`, origin.url('/file', '127.0.0.1')), 1000)
    assert.equal(await opened(`127.0.0.1:${origin.port}`, origin.url('/file', '0x7f.1')), 1000)
    assert.equal(await opened('origin.test:*', at('/file')), 1000)
    assert.equal(await opened('127.0.0.0/8', origin.url('/file', '127.0.0.1')), 1000)
    assert.equal(await opened('127.0.0.0/8', at('/file')), 1000)
  })

  test('of several addresses of a name only the open ones are dialled', async () => {
    assert.equal(await opened('127.0.0.0/8', origin.url('/file', 'half-open.test')), 1000)
  })

  test('does not help a name that is rebound between two connections', async () => {
    const answers = ['127.0.0.1', '10.0.0.1']
    const rebinding: Resolve = (_hostname, _options, callback) =>
      callback(null, [toLookupAddress(answers.shift() ?? '10.0.0.1')])
    await using some = createRemote({
      allow: parseEgressAllow('127.0.0.1/32'),
      userAgent: 'x',
      resolve: rebinding,
      ca: origin.ca,
    })
    // Each address is used for the very connection it was looked up for: the first is reached, the second is not.
    const { body } = await some.download(origin.url('/short', 'rebind.test'), options)
    await assert.rejects(buffer(body), { failure: 'download_failed' })
    await assert.rejects(some.download(origin.url('/file', 'rebind.test'), options), { failure: 'bad_parameter' })
    assert.deepEqual(answers, [])
  })
})

describe('redirects', () => {
  for (const status of [301, 302, 303, 307, 308])
    test(`${status} is followed`, async () => {
      const { body, finalUrl } = await fetched(`/redirect/1?status=${status}`)
      assert.equal(body.length, 1000)
      assert.equal(finalUrl, at('/file?bytes=1000'))
    })

  test('five are followed, the sixth is not', async () => {
    assert.equal((await fetched('/redirect/5')).body.length, 1000)
    await refused(at('/redirect/6'), 'download_failed', /redirected more than 5 times/)
    await refused(at('/loop'), 'download_failed', /redirected more than 5 times/)
  })

  test('may lead to another host', async () => {
    const location = origin.url('/file?bytes=7', 'other.test')
    const { body, finalUrl } = await fetched(`/to?location=${encodeURIComponent(location)}`)
    assert.deepEqual([body.length, finalUrl], [7, location])
  })

  test('carry no cookies and no referrer', async () => {
    await fetched('/cookies')
    const { path, headers } = origin.requests.at(-1) ?? assert.fail()
    assert.equal(path, '/file?bytes=1000')
    assert.deepEqual(Object.keys(headers).sort(), ['accept', 'accept-encoding', 'connection', 'host', 'user-agent'])
  })

  test('with an endless body are followed without it', async () => {
    assert.equal((await fetched('/redirect-endless')).body.length, 1000)
  })

  const to = (location: string) => at(`/to?location=${encodeURIComponent(location)}`)
  for (const location of [
    'https://127.0.0.1/',
    'https://2130706433/',
    'https://[::1]/',
    'https://169.254.169.254/latest/meta-data/',
    'https://metadata.test/',
    'https://loopback.test/',
    '//loopback.test/',
  ])
    test(`to ${location} is refused like the address itself`, async () => {
      await refused(to(location), 'bad_parameter', /must lead to a public address$/)
    })

  test('to anything but https are refused', async () => {
    for (const location of ['http://origin.test/?secret', 'ftp://origin.test/', 'file:///etc/passwd', 'data:,x'])
      await refused(to(location), 'download_failed', /redirected to a URL that is not https/)
    await refused(to('https://user:secret@other.test/'), 'download_failed', /redirected to a URL with credentials/)
    await refused(to('https://['), 'download_failed', /redirected to something that is not a URL/)
    await refused(at('/to'), 'download_failed', /redirected without saying where to/)
  })
})

describe('an answer that is not a file', () => {
  for (const status of [204, 205, 206, 300, 304, 400, 401, 404, 418, 500, 503])
    test(`${status} fails`, () => refused(at(`/status/${status}`), 'download_failed', /answered/))

  test('names the status and not the text of the host', () =>
    refused(at('/status/404?secret=1'), 'download_failed', /could not be downloaded: the host answered 404$/))

  test('an empty file is a file, announced or not: what it is worth is for others to say', async () => {
    for (const path of ['/file?bytes=0', '/file?bytes=0&chunked=1']) {
      const { body } = await remote.download(at(path), options)
      assert.equal((await body.toArray()).length, 0)
    }
  })

  test('a compressed one is never inflated', () => refused(at('/gzip'), 'download_failed', /compressed/))

  test('huge headers fail', () => refused(at('/huge-headers'), 'download_failed', /broke off/))

  test('what is not HTTP fails', () => refused(at('/garbage'), 'download_failed', /broke off/))
})

describe('size', () => {
  test('a file announced too large fails before its body', async () => {
    const attempt = remote.download(at(`/file?bytes=${LIMIT + 1}`), options)
    await assert.rejects(attempt, { failure: 'file_too_large', message: /is larger than 100000 bytes$/ })
  })

  test('a file that turns out too large fails while it is read', async () => {
    await refused(at(`/file?chunked=1&bytes=${LIMIT + 1}`), 'file_too_large', /is larger than/)
    await refused(at('/endless'), 'file_too_large', /is larger than/)
  })

  test('a body shorter than announced or broken off fails', async () => {
    await refused(at('/short'), 'download_failed', /broke off/)
    await refused(at('/cut'), 'download_failed', /broke off/)
    await refused(at('/reset'), 'download_failed', /broke off/)
  })

  test('bytes beyond the announced length are not part of the file', async () => {
    assert.equal((await fetched('/long')).body.toString(), 'x'.repeat(500))
    assert.equal((await fetched('/file?bytes=10')).body.length, 10)
  })
})

describe('time', () => {
  for (const path of ['/stall', '/stall-body', '/drip', '/drip-headers'])
    test(`${path} ends with the deadline`, () =>
      refused(at(path), 'download_failed', /took longer than 0\.3 s/, { timeoutMs: 300 }))

  test('a name server that never answers counts as well', () =>
    refused('https://hangs.test/', 'download_failed', /took longer than 0\.3 s/, { timeoutMs: 300 }))

  test('the deadline is one for all redirects', async () => {
    const location = encodeURIComponent('/stall')
    await refused(at(`/to?location=${location}`), 'download_failed', /took longer/, { timeoutMs: 300 })
  })

  test('an abort breaks off at every stage, with its own reason', async () => {
    for (const url of [at('/stall'), at('/stall-body'), at('/drip'), 'https://hangs.test/']) {
      const controller = new AbortController()
      const reason = new Error('the caller has gone')
      const attempt = remote
        .download(url, { ...options, signal: controller.signal })
        .then(({ body }) => pipeline(body, async (source) => void (await buffer(source))))
      setTimeout(() => controller.abort(reason), 100)
      await assert.rejects(attempt, (error) => error === reason, url)
    }
    const signal = AbortSignal.abort()
    await assert.rejects(remote.download(at('/file'), { ...options, signal }), { name: 'AbortError' })
  })
})

describe('the host', () => {
  test('that is unknown', () => refused('https://unknown.test/', 'download_failed', /could not be resolved/))

  test('that refuses the connection', async () => {
    const gone = await openHostileOrigin()
    await gone[Symbol.asyncDispose]()
    await using some = createRemote({ allow: parseEgressAllow('origin.test:*'), userAgent: 'x', resolve })
    await assert.rejects(some.download(`https://origin.test:${gone.port}/`, options), {
      failure: 'download_failed',
      message: /refused the connection$/,
    })
  })

  const untrusted = { failure: 'download_failed', message: /check the certificate of the host$/ } as const

  test('with a certificate nobody signed', async () => {
    await using some = createRemote({ allow: parseEgressAllow('origin.test:*'), userAgent: 'x', resolve })
    await assert.rejects(some.download(at('/file'), options), untrusted)
  })

  test('with a certificate for another name', async () => {
    await using some = createRemote({
      allow: parseEgressAllow('127.0.0.0/8'),
      userAgent: 'x',
      resolve,
      ca: origin.ca,
    })
    await assert.rejects(some.download(origin.url('/file', 'loopback.test'), options), untrusted)
  })

  test('with a certificate that has ended', async () => {
    const certificates = await makeCertificates(['origin.test'], { expired: true })
    await using late = await openHostileOrigin({ certificates })
    await using some = createRemote({ allow: parseEgressAllow('origin.test:*'), userAgent: 'x', resolve, ca: late.ca })
    await assert.rejects(some.download(late.url('/file', 'origin.test'), options), untrusted)
  })

  test('that speaks no TLS', async () => {
    await using plain = await openHostileOrigin({ plain: true })
    await using some = createRemote({ allow: parseEgressAllow('origin.test:*'), userAgent: 'x', resolve })
    await assert.rejects(some.download(`https://origin.test:${plain.port}/file`, options), untrusted)
  })
})

describe('a reader that goes away', () => {
  test('closes the connection', async () => {
    const { body } = await remote.download(at('/endless'), { ...options, maxBytes: Number.MAX_SAFE_INTEGER })
    const open = origin.sockets.size
    for await (const _ of body) break
    await eventually(() => origin.sockets.size < open)
    assert.equal(body.destroyed, true)
  })

  test('without reading is ended by the deadline and raises nothing', async () => {
    const endless = { ...options, maxBytes: Number.MAX_SAFE_INTEGER, timeoutMs: 300 }
    const { body } = await remote.download(at('/endless'), endless)
    await eventually(() => body.closed)
    await assert.rejects(buffer(body))
    assert.ok(body.errored instanceof Failure)
    assert.ok(body.readableLength < 1_000_000)
  })

  test('slowly gets everything, with a bounded part of it in memory', async () => {
    const bytes = 20_000_000
    const { body } = await remote.download(at(`/file?bytes=${bytes}`), { ...options, maxBytes: bytes })
    let received = 0
    let held = 0
    for await (const chunk of Readable.from(body)) {
      received += chunk.length
      held = Math.max(held, body.readableLength)
      if (received % 7 === 0) await sleep(1)
    }
    assert.equal(received, bytes)
    assert.ok(held < 500_000, `${held} bytes were held`)
  })

  test('the end of the remote breaks off what is under way', async () => {
    const some = createRemote({ allow: parseEgressAllow('origin.test:*'), userAgent: 'x', resolve, ca: origin.ca })
    const { body } = await some.download(at('/drip'), options)
    await some[Symbol.asyncDispose]()
    await assert.rejects(buffer(body), { failure: 'download_failed' })
    await assert.rejects(some.download(at('/file'), options), { failure: 'download_failed' })
  })
})

async function eventually(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await sleep(10)
  assert.ok(condition())
}
