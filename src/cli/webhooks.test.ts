import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { deliveryHeaders } from '../webhooks/sign.ts'
import { webhooks } from './webhooks.ts'

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw7Jxx2Oll+OE='
const BODY = '{"data":{"text":"Grüße"}}'
const SECONDS = 1_771_243_200
const HEADERS = deliveryHeaders({
  secrets: [SECRET],
  eventId: '0190b7c8-0000-7000-8000-000000000001',
  eventType: 'message.received',
  subscriptionId: 'b2c3d4e5-f6a7-4901-8cde-f23456789012',
  traceId: '2eff5df5c6f688733c007523c4d61cd9',
  version: '2026-02-03',
  body: BODY,
  at: SECONDS * 1000,
  userAgent: 'test',
})
const LINES = Object.entries(HEADERS).map(([name, value]) => `${name}: ${value}`)
const FITS = 'standard signature (webhook-signature): fits\nlegacy signature (X-Webhook-Signature): fits\n'

let folder = ''
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'satchel-webhooks-'))
})
after(() => rm(folder, { recursive: true }))

async function save(name: string, content: string): Promise<string> {
  await writeFile(join(folder, name), content)
  return join(folder, name)
}

async function run(args: string[], stdin = '') {
  const result = { code: 0, stdout: '', stderr: '' }
  const out = {
    stdout: (text: string) => {
      result.stdout += text
    },
    stderr: (text: string) => {
      result.stderr += text
    },
  }
  async function* input() {
    yield Buffer.from(stdin)
  }
  result.code = await webhooks(args, out, { stdin: input(), now: () => SECONDS * 1000 })
  return result
}

test('headers are read as curl prints them, as lines, and as JSON', async () => {
  const body = await save('body.json', BODY)
  const forms = {
    lines: LINES.join('\n'),
    'as curl -i': `HTTP/1.1 200 OK\r\n${LINES.join('\r\n')}\r\n\r\n`,
    'as curl -v': `> POST /hooks HTTP/1.1\n${LINES.map((line) => `> ${line}`).join('\n')}\n>\n`,
    json: JSON.stringify(HEADERS),
    'json with lists': JSON.stringify(Object.fromEntries(Object.entries(HEADERS).map(([k, v]) => [k, [v]]))),
  }
  for (const [name, text] of Object.entries(forms)) {
    const headers = await save('headers', text)
    const result = await run(['verify', '--secret', SECRET, '--headers', headers, '--body', body])
    assert.deepEqual(result, { code: 0, stdout: FITS, stderr: '' }, name)
  }
})

test('either file may be standard input, to the byte', async () => {
  const body = await save('body.json', BODY)
  const headers = await save('headers.txt', LINES.join('\n'))
  const args = ['verify', '--secret', SECRET]
  assert.equal((await run([...args, '--headers', headers, '--body', '-'], BODY)).code, 0)
  assert.equal((await run([...args, '--headers', '-', '--body', body], LINES.join('\n'))).code, 0)
  const { code, stdout } = await run([...args, '--headers', headers, '--body', '-'], `${BODY}\n`)
  assert.equal(code, 1)
  assert.match(
    stdout,
    /^standard signature \(webhook-signature\): refused \(body changed\)\n {2}The body has gained a line end\./,
  )
})

test('only the standard signature decides about the exit code', async () => {
  const body = await save('body.json', BODY)
  const headers = await save('headers.json', JSON.stringify({ ...HEADERS, 'X-Webhook-Signature': '0'.repeat(64) }))
  const { code, stdout } = await run(['verify', '--secret', SECRET, '--headers', headers, '--body', body])
  assert.equal(code, 0)
  assert.match(stdout, /^standard .*: fits\nlegacy .*: refused \(wrong secret\)\n {2}The other signature fits/)
})

test('--now says when it was received', async () => {
  const body = await save('body.json', BODY)
  const headers = await save('headers.txt', LINES.join('\n'))
  const args = ['verify', '--secret', SECRET, '--headers', headers, '--body', body, '--now']
  assert.equal((await run([...args, String(SECONDS + 300)])).code, 0)
  const { code, stdout } = await run([...args, String(SECONDS + 301)])
  assert.equal(code, 1)
  assert.match(stdout, /refused \(stale timestamp\)/)
})

test('wrong options are told with exit code 2, and --help is the usage', async () => {
  const body = await save('body.json', BODY)
  const rubbish = await save('rubbish', 'nothing of the kind')
  const args = ['verify', '--secret', SECRET]
  for (const [given, expected] of [
    [[], /^satchel webhooks verify/],
    [['dance'], /^satchel webhooks verify/],
    [['verify', '--headers', body, '--body', body], /are needed/],
    [[...args, '--headers', '-', '--body', '-'], /only one of/],
    [[...args, '--headers', join(folder, 'none'), '--body', body], /ENOENT/],
    [[...args, '--headers', rubbish, '--body', body], /holds neither/],
    [[...args, '--headers', body, '--body', body, '--now', 'noon'], /"noon" is not a time/],
  ] as const) {
    const { code, stdout, stderr } = await run([...given])
    assert.equal(code, 2)
    assert.match(stderr, expected)
    assert.equal(stdout, '')
  }
  assert.match((await run(['--help'])).stdout, /^satchel webhooks verify/)
  assert.match((await run(['verify', '--help'])).stdout, /^satchel webhooks verify/)
})
