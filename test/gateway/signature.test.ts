/** Who may report: the signature of an event, and what is answered before and beside it. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { assertRefused } from '../support/answers.ts'
import { runCli, startServer } from '../support/satchel.ts'
import { keptBy, lineOf } from '../support/scene.ts'
import { OTHER_SECRET, SECRET, signedHeaders } from './double.ts'
import { openStage } from './stage.ts'

const stage = await openStage()
after(() => stage[Symbol.asyncDispose]())
const { server } = stage
const url = `${server.api}/gateway/events`
const BODY = JSON.stringify({
  type: 'received',
  carrier_ref: 'signed',
  from: '+14155550101',
  to: lineOf(server),
  text: 'Grüße 👋',
})
const post = (headers: Record<string, string>, body = BODY) => fetch(url, { method: 'POST', headers, body })

const MINUTE = 60_000
const good = signedHeaders(BODY)
const without = (name: string) => Object.fromEntries(Object.entries(good).filter(([known]) => known !== name))
const ofTheGood = good['webhook-signature'] ?? ''
const unauthorized: [what: string, headers: Record<string, string>, body: string, message: RegExp][] = [
  ['no signature at all', {}, BODY, /webhook-id is missing/],
  ['the API key instead', { authorization: `Bearer ${server.apiKey}` }, BODY, /webhook-id is missing/],
  ['no id', without('webhook-id'), BODY, /webhook-id is missing/],
  ['no timestamp', without('webhook-timestamp'), BODY, /webhook-timestamp is missing/],
  ['no webhook-signature', without('webhook-signature'), BODY, /webhook-signature is missing/],
  ['another secret', signedHeaders(BODY, { secret: OTHER_SECRET }), BODY, /does not fit/],
  ['another id', { ...good, 'webhook-id': randomUUID() }, BODY, /does not fit/],
  [
    'another timestamp',
    { ...good, 'webhook-timestamp': String(Math.floor(Date.now() / 1000) + 5) },
    BODY,
    /does not fit/,
  ],
  ['a body with one more blank', good, `${BODY} `, /does not fit/],
  ['no body', good, '', /does not fit/],
  ['a body that is no JSON', good, '{', /does not fit/],
  ['a time 6 minutes ago', signedHeaders(BODY, { at: Date.now() - 6 * MINUTE }), BODY, /5 minutes/],
  ['a time in 6 minutes', signedHeaders(BODY, { at: Date.now() + 6 * MINUTE }), BODY, /5 minutes/],
  ['a time in milliseconds', { ...good, 'webhook-timestamp': String(Date.now()) }, BODY, /Unix seconds|5 minutes/],
  ['a time in words', { ...good, 'webhook-timestamp': 'now' }, BODY, /Unix seconds/],
  ['half a signature', { ...good, 'webhook-signature': ofTheGood.slice(0, 20) }, BODY, /does not fit/],
  ['a signature without v1', { ...good, 'webhook-signature': ofTheGood.slice(3) }, BODY, /does not fit/],
  ['a signature of another version', { ...good, 'webhook-signature': ofTheGood.replace('v1', 'v1a') }, BODY, /not fit/],
  ['two empty signatures', { ...good, 'webhook-signature': 'v1, v1,' }, BODY, /does not fit/],
]
for (const [what, headers, body, message] of unauthorized) {
  test(`an event with ${what} is refused with 2004 and changes nothing`, async () => {
    const before = await keptBy(server)
    await assertRefused(post(headers, body), { status: 401, code: 2004, message })
    assert.deepEqual(await keptBy(server), before)
  })
}

test('a time 4 minutes off either way is near enough, and a recorded event may be played again in vain', async () => {
  const late = signedHeaders(BODY, { at: Date.now() - 4 * MINUTE })
  const first = await post(late)
  assert.equal(first.status, 202)
  const answer = await first.text()
  const before = await keptBy(server)
  for (const headers of [late, signedHeaders(BODY, { at: Date.now() + 4 * MINUTE })]) {
    assert.equal(await (await post(headers)).text(), answer)
  }
  assert.deepEqual({ ...(await keptBy(server)), keys: 0 }, { ...before, keys: 0 })
})

test('one of several signatures has to fit, and no content type is needed', async () => {
  const { 'webhook-id': id = '', 'webhook-timestamp': timestamp = '' } = good
  const old = new Webhook(OTHER_SECRET).sign(id, new Date(Number(timestamp) * 1000), BODY)
  for (const signature of [`${old} ${ofTheGood}`, `${ofTheGood} ${old}`]) {
    const headers = { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature }
    assert.equal((await fetch(url, { method: 'POST', headers, body: Buffer.from(BODY) })).status, 202)
  }
})

test('the endpoint takes POST only, and is in the reference under its own tag, without the API key', async () => {
  await assertRefused(fetch(url), { status: 405, code: 1005, message: /POST/ })
  const { paths } = (await (await fetch(`${server.api}/openapi.json`)).json()) as {
    paths: Record<string, { post: { tags: string[]; security: unknown[]; requestBody: object } }>
  }
  const { tags, security, requestBody } = paths['/gateway/events']?.post ?? assert.fail()
  assert.deepEqual([tags, security], [['Gateway'], []])
  for (const field of ['message_id', 'carrier_ref', 'others', 'reason'])
    assert.match(JSON.stringify(requestBody), new RegExp(field))
})

test('where there is a gateway there is no sandbox, and where there is none there is no endpoint', async () => {
  assert.equal((await server.call('/v3/chats')).status, 200)
  const headers = { authorization: `Bearer ${server.apiKey}` }
  assert.equal((await fetch(`${server.api}/sandbox/phones`, { headers })).status, 404)
  await using other = await startServer()
  const answer = fetch(`${other.api}/gateway/events`, { method: 'POST', headers: signedHeaders(BODY), body: BODY })
  await assertRefused(answer, { status: 404, code: 2001 })
})

test('a configuration that cannot work is refused by the name of its variable, and the secret is never shown', async () => {
  const URL_OK = 'http://127.0.0.1:9/messages'
  const wrong: [env: Record<string, string>, message: RegExp][] = [
    [{ SATCHEL_GATEWAY_URL: URL_OK }, /SATCHEL_GATEWAY_SECRET: must be set with SATCHEL_GATEWAY_URL/],
    [{ SATCHEL_GATEWAY_SECRET: SECRET }, /SATCHEL_GATEWAY_URL: must be set with SATCHEL_GATEWAY_SECRET/],
    [{ SATCHEL_GATEWAY_URL: 'ftp://x', SATCHEL_GATEWAY_SECRET: SECRET }, /SATCHEL_GATEWAY_URL: "ftp:\/\/x" is not/],
    [{ SATCHEL_GATEWAY_URL: URL_OK, SATCHEL_GATEWAY_SECRET: 'tooshort' }, /SATCHEL_GATEWAY_SECRET: must be whsec_/],
    [{ SATCHEL_GATEWAY_URL: URL_OK, SATCHEL_GATEWAY_SECRET: 'whsec_c2hvcnQ=' }, /24 to 64/],
  ]
  const runs = wrong.map(async ([env, message]) => {
    const { code, stderr } = await runCli(['serve'], env)
    assert.equal(code, 1)
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /MfKQ9r8/)
  })
  await Promise.all(runs)
  const { stdout } = await runCli(['config', '--print'], {
    SATCHEL_GATEWAY_URL: URL_OK,
    SATCHEL_GATEWAY_SECRET: SECRET,
  })
  assert.match(stdout, /SATCHEL_GATEWAY_SECRET/)
  assert.doesNotMatch(stdout, /MfKQ9r8/)
  assert.doesNotMatch(server.log(), /MfKQ9r8/)
})
