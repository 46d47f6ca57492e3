import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { jpeg } from '../../test/fixtures/media/files.ts'
import { trigger } from './trigger.ts'

type Asked = { line: string; authorization: string | undefined; form: FormData | undefined }
const MADE = { chat_id: 'c0000000-0000-4000-8000-000000000001', message_id: 'a0000000-0000-4000-8000-000000000002' }

let folder = ''
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'satchel-trigger-'))
})
after(() => rm(folder, { recursive: true }))

/** Stands in for the sandbox: keeps what it was asked. */
async function sandbox(o: { lines?: string[]; refuse?: (response: ServerResponse) => void } = {}) {
  const asked: Asked[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const type = request.headers['content-type']
    const form = type?.startsWith('multipart/form-data')
      ? await new Response(Buffer.concat(chunks), { headers: { 'content-type': type } }).formData()
      : undefined
    asked.push({ line: `${request.method} ${request.url}`, authorization: request.headers.authorization, form })
    if (o.refuse) return o.refuse(response)
    const json = (status: number, body: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    if (request.url?.endsWith('/phone_numbers')) {
      json(200, { phone_numbers: (o.lines ?? ['+12025550100', '+12025550101']).map((n) => ({ phone_number: n })) })
    } else if (request.url === '/sandbox/messages') json(201, MADE)
    else response.writeHead(204).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    asked,
    env: { baseUrl: `${origin}/api/partner`, apiKey: 'the-key' },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

async function run(env: { baseUrl: string | undefined; apiKey: string | undefined }, ...args: string[]) {
  const result = { code: 0, stdout: '', stderr: '' }
  const out = {
    stdout: (text: string) => {
      result.stdout += text
    },
    stderr: (text: string) => {
      result.stderr += text
    },
  }
  result.code = await trigger(args, out, { env })
  return result
}

test('message.received sends a form to the first line and prints the ids', async () => {
  await using api = await sandbox()
  const photo = join(folder, 'photo.jpeg')
  const notes = join(folder, 'notes.xyz')
  await writeFile(photo, jpeg())
  await writeFile(notes, '')
  const result = await run(api.env, 'message.received', '--file', photo, '--file', notes, '--text', 'Grüße')
  assert.deepEqual(result, { code: 0, stdout: `chat     ${MADE.chat_id}\nmessage  ${MADE.message_id}\n`, stderr: '' })
  const [lines, sent] = api.asked
  assert.equal(lines?.line, 'GET /api/partner/v3/phone_numbers')
  assert.equal(sent?.line, 'POST /sandbox/messages')
  assert.deepEqual([lines?.authorization, sent?.authorization], ['Bearer the-key', 'Bearer the-key'])
  const form = sent?.form ?? new FormData()
  assert.deepEqual([...form.keys()], ['from', 'to', 'text', 'media', 'media'])
  assert.equal(form.get('from'), '+14155550123')
  assert.equal(form.get('to'), '+12025550100')
  assert.equal(form.get('text'), 'Grüße')
  const files = form.getAll('media') as File[]
  assert.deepEqual(
    files.map(({ name, type }) => [name, type]),
    [
      ['photo.jpeg', 'image/jpeg'],
      ['notes.xyz', 'application/octet-stream'],
    ],
  )
  assert.deepEqual(Buffer.from(await new Blob(files.slice(0, 1)).arrayBuffer()), Buffer.from(jpeg()))
})

test('what is named is taken, and the lines are not asked for', async () => {
  await using api = await sandbox()
  const options = ['--from', '+14155550199', '--to', '+12025550101', '--service', 'SMS', '--text', 'Hi']
  assert.equal((await run(api.env, 'message.received', ...options)).code, 0)
  assert.equal(api.asked.length, 1)
  assert.deepEqual(Object.fromEntries(api.asked[0]?.form ?? []), {
    from: '+14155550199',
    to: '+12025550101',
    text: 'Hi',
    service: 'SMS',
  })
})

test('message.read reads the message', async () => {
  await using api = await sandbox()
  const result = await run(api.env, 'message.read', '--message', 'a/b')
  assert.deepEqual(result, { code: 0, stdout: 'message  a/b is read\n', stderr: '' })
  assert.deepEqual(
    api.asked.map(({ line }) => line),
    ['POST /sandbox/messages/a%2Fb/read'],
  )
})

test('the message of the API is printed when it refuses, and the exit code is 1', async () => {
  const error = { status: 401, code: 2004, message: 'Invalid API key' }
  await using api = await sandbox({
    refuse: (response) => void response.writeHead(401).end(JSON.stringify({ success: false, error })),
  })
  const result = await run(api.env, 'message.read', '--message', 'x')
  assert.deepEqual(result, {
    code: 1,
    stdout: '',
    stderr: 'satchel: the API answered 401: Invalid API key (code 2004)\n',
  })
})

test('a server that is not running, or is something else, is said to be that', async () => {
  const nobody = await run({ baseUrl: 'http://127.0.0.1:1', apiKey: 'k' }, 'message.read', '--message', 'x')
  assert.equal(nobody.code, 1)
  assert.match(
    nobody.stderr,
    /^satchel: no answer from http:\/\/127\.0\.0\.1:1 \(.+\); is "satchel serve" running there\?\n$/,
  )
  await using other = await sandbox({ refuse: (response) => void response.writeHead(404).end('<html>') })
  const { code, stderr } = await run(other.env, 'message.received', '--text', 'Hi')
  assert.equal(code, 1)
  assert.match(stderr, /answered 404: there is no such path; is this Satchel/)
})

test('a key without lines needs --to', async () => {
  await using api = await sandbox({ lines: [] })
  const { code, stderr } = await run(api.env, 'message.received', '--text', 'Hi')
  assert.equal(code, 1)
  assert.match(stderr, /has no phone numbers; name one with --to/)
})

test('wrong options are told before anything is sent, and --help is the usage', async () => {
  await using api = await sandbox()
  for (const [args, expected] of [
    [[], /name the event/],
    [['message.sent'], /name the event/],
    [['message.read'], /--message needs the id/],
    [['message.received'], /--text or --file is needed/],
    [['message.received', '--text', 'Hello', 'world'], /"world" is one word too many/],
    [['message.received', '--text', 'x', '--to', '2025550100'], /"2025550100" is not in E\.164/],
    [['message.received', '--text', 'x', '--service', 'fax'], /--service must be one of/],
    [['message.received', '--file', join(folder, 'none.png')], /none\.png is not a file/],
    [['message.received', '--file', folder], /is not a file/],
  ] as const) {
    const { code, stdout, stderr } = await run(api.env, ...args)
    assert.equal(code, 2)
    assert.match(stderr, expected)
    assert.equal(stdout, '')
  }
  assert.deepEqual(api.asked, [])
  const keyless = await run({ ...api.env, apiKey: undefined }, 'message.read', '--message', 'x')
  assert.equal(keyless.code, 2)
  assert.match(keyless.stderr, /there is no API key/)
  assert.match((await run(api.env, '--help')).stdout, /^satchel trigger message\.received/)
})
