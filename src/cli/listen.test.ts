import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import LinqAPIV3 from '@linqapp/sdk'
import { diagnose } from '../webhooks/verify.ts'
import type { ClientEnvironment } from './client.ts'
import { listen } from './listen.ts'

type Received = { path: string; headers: IncomingHttpHeaders; body: Buffer }
const ENV: ClientEnvironment = { baseUrl: undefined, apiKey: undefined }

async function host(answer: (received: Received, response: ServerResponse) => void, port = 0) {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    answer({ path: request.url ?? '', headers: request.headers, body: Buffer.concat(chunks) }, response)
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const bound = (server.address() as AddressInfo).port
  return {
    port: bound,
    url: `http://127.0.0.1:${bound}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

const envelope = (n: number, type = 'message.received') =>
  JSON.stringify({
    api_version: 'v3',
    webhook_version: '2026-02-03',
    event_type: type,
    event_id: `0190b7c8-0000-7000-8000-00000000000${n}`,
    trace_id: '2eff5df5c6f688733c007523c4d61cd9',
    data: { text: `Grüße ${n} 👋` },
  })

const streamed = (n: number, type = 'message.received') =>
  `id: 0190b7c8-0000-7000-8000-00000000000${n}\nevent: ${type}\ndata: ${envelope(n, type)}\n\n`

/** Runs the command; `until` resolves once what it printed fits. Call `end` as Ctrl-C would be pressed. */
function start(args: string[], env = ENV) {
  const stop = new AbortController()
  const printed = { stdout: '', stderr: '' }
  let look = () => {}
  const write = (name: 'stdout' | 'stderr') => (text: string) => {
    printed[name] += text
    look()
  }
  const out = { stdout: write('stdout'), stderr: write('stderr') }
  const code = listen(args, out, { env, signal: stop.signal, firstPauseMs: 10 })
  return {
    printed,
    code,
    until: (pattern: RegExp) =>
      new Promise<void>((resolve, reject) => {
        look = () => pattern.test(printed.stdout + printed.stderr) && resolve()
        look()
        code.then(() => reject(new Error(`it ended: ${JSON.stringify(printed)}`)), reject)
      }),
    end: async () => {
      stop.abort()
      return await code
    },
  }
}

test('each event is posted byte for byte, signed with the secret that was printed, and told in a line', async () => {
  const deliveries: Received[] = []
  await using receiver = await host((received, response) => {
    deliveries.push(received)
    response.writeHead(deliveries.length === 2 ? 500 : 204).end()
  })
  let asked: Received | undefined
  await using api = await host((received, response) => {
    asked = received
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(`: ready\n\n${streamed(1)}${streamed(2, 'message.read')}`)
  })
  const env = { baseUrl: `${api.url}/api/partner/`, apiKey: 'the-key' }
  const run = start(['--forward-to', `127.0.0.1:${receiver.port}/hooks?a=b`], env)
  await run.until(/message\.read.*ms\n/)
  assert.equal(await run.end(), 0)

  assert.equal(asked?.path, '/sandbox/events')
  assert.equal(asked?.headers.authorization, 'Bearer the-key')
  assert.equal(asked?.headers['last-event-id'], undefined)

  const secret = /^LINQ_WEBHOOK_SECRET=(whsec_\S+)\n/.exec(run.printed.stdout)?.[1] ?? ''
  const [first, second] = deliveries
  assert.ok(first && second)
  assert.equal(first.path, '/hooks?a=b')
  assert.equal(first.body.toString(), envelope(1))
  assert.equal(second.body.toString(), envelope(2, 'message.read'))
  const { headers } = first
  assert.equal(headers['webhook-id'], '0190b7c8-0000-7000-8000-000000000001')
  assert.equal(headers['content-type'], 'application/json')
  assert.equal(headers['x-webhook-event'], 'message.received')
  assert.equal(headers['x-webhook-payload-version'], '2026-02-03')
  assert.match(String(headers.traceparent), /^00-2eff5df5c6f688733c007523c4d61cd9-/)
  assert.match(String(headers['user-agent']), /^Satchel\//)
  const texts = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
  new LinqAPIV3({ apiKey: 'unused' }).webhooks.unwrap(first.body.toString(), { headers: texts, key: secret })
  const verdict = diagnose({ secret, headers: texts, body: first.body, now: Date.now() })
  assert.deepEqual(verdict, { standard: { ok: true }, legacy: { ok: true } })

  assert.match(run.printed.stdout, /^\d\d:\d\d:\d\d {2}message\.received {4}0190b7c8-\S+01 {2}204 {2}\d+ ms$/m)
  assert.match(run.printed.stdout, /^\d\d:\d\d:\d\d {2}message\.read {8}0190b7c8-\S+02 {2}500 {2}\d+ ms$/m)
})

test('a given secret signs and is not printed, and --events leaves out the rest', async () => {
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  const deliveries: Received[] = []
  await using receiver = await host((received, response) => {
    deliveries.push(received)
    response.end()
  })
  await using api = await host((_, response) => {
    response.writeHead(200).write(streamed(1) + streamed(2, 'message.read') + streamed(3, 'message.sent'))
  })
  const options = ['--url', api.url, '--key', 'k', '--secret', secret, '--events', 'message.sent, message.read']
  const run = start(['--forward-to', receiver.url, ...options])
  await run.until(/message\.sent.*ms\n/)
  assert.equal(await run.end(), 0)
  assert.deepEqual(
    deliveries.map(({ headers }) => headers['x-webhook-event']),
    ['message.read', 'message.sent'],
  )
  assert.ok(!run.printed.stdout.includes('whsec_'))
  const [{ body, headers } = { body: '', headers: {} }] = deliveries
  const texts = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
  new LinqAPIV3({ apiKey: 'unused' }).webhooks.unwrap(String(body), { headers: texts, key: secret })
})

test('it goes on behind the last event when the server went away, and says so', async () => {
  await using receiver = await host((_, response) => void response.end())
  const asked: (string | undefined)[] = []
  await using api = await host(({ headers }, response) => {
    asked.push(headers['last-event-id']?.toString())
    if (asked.length === 1) response.end(`id: 0190b7c8-0000-7000-8000-000000000000\n\n${streamed(1)}`)
    else if (asked.length === 2) response.writeHead(503).end()
    else if (asked.length === 3) response.destroy()
    else response.write(streamed(2))
  })
  const run = start(['--forward-to', receiver.url, '--url', api.url, '--key', 'k'])
  await run.until(/0002 {2}200/)
  assert.equal(await run.end(), 0)
  const last = '0190b7c8-0000-7000-8000-000000000001'
  assert.deepEqual(asked, [undefined, last, last, last])
  const { stderr } = run.printed
  assert.match(stderr, /the server ended the connection \(trying again in 0\.01 s\)\n/)
  assert.match(stderr, /the API answered 503 \(trying again in 0\.02 s\)\n/)
  assert.match(stderr, /no answer from .* running there\? \(trying again in 0\.04 s\)\n/)
})

test('an id that came before any event is where it goes on', async () => {
  const asked: (string | undefined)[] = []
  await using api = await host(({ headers }, response) => {
    asked.push(headers['last-event-id']?.toString())
    if (asked.length === 1) response.end('id: 7\n\n')
    else response.write(': ready\n\n')
  })
  const run = start(['--forward-to', 'localhost:1', '--url', api.url, '--key', 'k'])
  await run.until(/Listening[\s\S]*Listening/)
  assert.equal(await run.end(), 0)
  assert.deepEqual(asked, [undefined, '7'])
})

test('a receiver that refuses or redirects is shown, and the next event still comes', async () => {
  const asked: string[] = []
  await using receiver = await host(({ path }, response) => {
    asked.push(path)
    if (asked.length === 1) response.destroy()
    else response.writeHead(302, { location: '/elsewhere' }).end()
  })
  await using api = await host((_, response) => void response.writeHead(200).write(streamed(1) + streamed(2)))
  const run = start(['--forward-to', receiver.url, '--url', api.url, '--key', 'k'])
  await run.until(/0002 {2}302/)
  assert.equal(await run.end(), 0)
  assert.match(run.printed.stdout, /0001 {2}(UND_ERR_SOCKET|ECONNRESET) {2}\d+ ms/)
  assert.deepEqual(asked, ['/', '/'])
})

test('Ctrl-C ends it with 0 while it waits for a server or for an answer', async () => {
  const posted = Promise.withResolvers<void>()
  await using silent = await host(() => posted.resolve())
  await using api = await host((_, response) => void response.writeHead(200).write(streamed(1)))
  const waiting = start(['--forward-to', silent.url, '--url', api.url, '--key', 'k'])
  await posted.promise
  assert.equal(await waiting.end(), 0)
  const down = start(['--forward-to', silent.url, '--url', 'http://127.0.0.1:1', '--key', 'k'])
  await down.until(/no answer from http:\/\/127\.0\.0\.1:1 .*is "satchel serve" running/)
  assert.equal(await down.end(), 0)
  assert.equal(process.listenerCount('SIGINT'), 0)
})

test('a wrong key ends it with the message of the API', async () => {
  await using api = await host((_, response) => {
    const error = { status: 401, code: 2004, message: 'Invalid API key' }
    response.writeHead(401, { 'content-type': 'application/json' }).end(JSON.stringify({ success: false, error }))
  })
  const run = start(['--forward-to', 'localhost:1', '--url', api.url, '--key', 'wrong'])
  assert.equal(await run.code, 1)
  assert.equal(run.printed.stderr, 'satchel: the API answered 401: Invalid API key (code 2004)\n')
})

test('wrong options are told, and --help is the usage', async () => {
  const good = ['--forward-to', 'localhost:3000']
  for (const [args, expected] of [
    [[], /--forward-to needs/],
    [['--forward-to', 'ftp://localhost'], /--forward-to needs/],
    [[...good, '--key', 'k', '--secret', 'abc'], /--secret must be/],
    [[...good, '--key', 'k', '--events', 'message.red'], /"message\.red" is not an event; there are message\.sent/],
    [[...good, '--key', 'k', '--url', 'nowhere'], /"nowhere" is not an http/],
    [good, /there is no API key/],
  ] as const) {
    const run = start([...args])
    assert.equal(await run.code, 2)
    assert.match(run.printed.stderr, expected)
    assert.equal(run.printed.stdout, '')
  }
  const help = start(['--help'])
  assert.equal(await help.code, 0)
  assert.match(help.printed.stdout, /^satchel listen --forward-to URL/)
})
