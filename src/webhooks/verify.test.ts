import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import type { Mistake } from './mistakes.ts'
import { deliveryHeaders } from './sign.ts'
import { diagnose, type Verdict } from './verify.ts'

/** Its base64 has + and /, and = at the end: all that mangling can touch. */
const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw7Jxx2Oll+/E='
const OTHER = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD3JxxiOll+wE='
const ID = '0190b7c8-0000-7000-8000-000000000001'
const SECONDS = 1_771_243_200
const BODY = JSON.stringify({ api_version: 'v3', data: { text: 'Grüße 👋', at: null, n: [1, 2] } })

function deliver(secrets: [string, ...string[]] = [SECRET]) {
  return deliveryHeaders({
    secrets,
    eventId: ID,
    eventType: 'message.received',
    subscriptionId: 'b2c3d4e5-f6a7-4901-8cde-f23456789012',
    traceId: '2eff5df5c6f688733c007523c4d61cd9',
    version: '2026-02-03',
    body: BODY,
    at: SECONDS * 1000,
    userAgent: 'test',
  })
}

type Case = { secret?: string; headers?: Record<string, string>; body?: string | Buffer; now?: number }

function look(o: Case = {}) {
  return diagnose({
    secret: o.secret ?? SECRET,
    headers: { ...deliver(), ...o.headers },
    body: Buffer.from(o.body ?? BODY),
    now: o.now ?? SECONDS * 1000,
  })
}

const mistakes = (verdict: Verdict): Mistake[] => (verdict.ok ? [] : verdict.faults.map(({ mistake }) => mistake))

/** Made here, not with sign.ts, as a program that gets it wrong would. */
const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest()
const decoded = (secret: string) => Buffer.from(secret.slice(6), 'base64')
const standardIs = (digest: Buffer) => ({ 'webhook-signature': `v1,${digest.toString('base64')}` })
const legacyIs = (digest: Buffer) => ({ 'X-Webhook-Signature': digest.toString('hex') })
const FULL = `${ID}.${SECONDS}.${BODY}`
const SHORT = `${SECONDS}.${BODY}`

test('a delivery as it was sent fits in both families, whatever the case of the names', () => {
  const headers = Object.fromEntries(Object.entries(deliver()).map(([name, value]) => [name.toUpperCase(), value]))
  const verdict = diagnose({ secret: SECRET, headers, body: Buffer.from(BODY), now: SECONDS * 1000 })
  assert.deepEqual(verdict, { standard: { ok: true }, legacy: { ok: true } })
})

test('a missing header is named', () => {
  const { standard, legacy } = diagnose({ secret: SECRET, headers: {}, body: Buffer.from(BODY), now: 0 })
  assert.deepEqual(mistakes(standard), ['missing_header'])
  assert.match(JSON.stringify(standard), /webhook-signature and no webhook-timestamp and no webhook-id/)
  assert.match(JSON.stringify(legacy), /x-webhook-signature and no x-webhook-timestamp/)
})

const STANDARD_CASES: [string, Record<string, string>, Mistake[]][] = [
  ['the text of the secret as the key', standardIs(hmac(SECRET, FULL)), ['key_not_decoded']],
  ['the text behind whsec_ as the key', standardIs(hmac(SECRET.slice(6), FULL)), ['key_not_decoded']],
  ['whsec_ decoded along', standardIs(hmac(Buffer.from(SECRET, 'base64'), FULL)), ['prefix_decoded']],
  ['the legacy signature', standardIs(hmac(SECRET, SHORT)), ['other_family']],
  ['the legacy header as it is', { 'webhook-signature': hmac(SECRET, SHORT).toString('hex') }, ['other_family']],
  ['no id in the text', standardIs(hmac(decoded(SECRET), SHORT)), ['wrong_signed_text']],
  ['the body alone', standardIs(hmac(decoded(SECRET), BODY)), ['wrong_signed_text']],
  ['hex', { 'webhook-signature': `v1,${hmac(decoded(SECRET), FULL).toString('hex')}` }, ['wrong_spelling']],
  ['no v1', { 'webhook-signature': hmac(decoded(SECRET), FULL).toString('base64') }, ['wrong_spelling']],
  ['base64url', { 'webhook-signature': `v1,${hmac(decoded(SECRET), FULL).toString('base64url')}` }, ['wrong_spelling']],
  ['rubbish', { 'webhook-signature': 'v1,[redacted]' }, ['unreadable_signature']],
  ['another secret', standardIs(hmac(decoded(OTHER), FULL)), ['wrong_secret']],
  ['another id', { 'webhook-id': 'other' }, ['wrong_secret']],
  ['a date for a timestamp', { 'webhook-timestamp': '2026-02-16T12:00:00Z' }, ['unreadable_timestamp']],
]
for (const [name, headers, expected] of STANDARD_CASES) {
  test(`the standard signature made with ${name} is ${expected}, and the legacy one still fits`, () => {
    const { standard, legacy } = look({ headers })
    assert.deepEqual(mistakes(standard), expected)
    assert.deepEqual(legacy, { ok: true })
  })
}

const LEGACY_CASES: [string, Record<string, string>, Mistake[]][] = [
  ['the decoded secret as the key', legacyIs(hmac(decoded(SECRET), SHORT)), ['key_decoded']],
  ['the text behind whsec_ as the key', legacyIs(hmac(SECRET.slice(6), SHORT)), ['prefix_left_out']],
  ['the standard signature', legacyIs(hmac(decoded(SECRET), FULL)), ['other_family']],
  ['the standard header as it is', { 'X-Webhook-Signature': deliver()['webhook-signature'] ?? '' }, ['other_family']],
  ['the id in the text', legacyIs(hmac(SECRET, FULL)), ['wrong_signed_text']],
  ['upper-case hex', { 'X-Webhook-Signature': hmac(SECRET, SHORT).toString('hex').toUpperCase() }, ['wrong_spelling']],
  ['sha256=', { 'X-Webhook-Signature': `sha256=${hmac(SECRET, SHORT).toString('hex')}` }, ['wrong_spelling']],
  ['a cut', { 'X-Webhook-Signature': hmac(SECRET, SHORT).toString('hex').slice(0, 40) }, ['unreadable_signature']],
  ['another secret', legacyIs(hmac(OTHER, SHORT)), ['wrong_secret']],
]
for (const [name, headers, expected] of LEGACY_CASES) {
  test(`the legacy signature made with ${name} is ${expected}, and the standard one still fits`, () => {
    const { standard, legacy } = look({ headers })
    assert.deepEqual(mistakes(legacy), expected)
    assert.deepEqual(standard, { ok: true })
  })
}

const BODIES: [string, string | Buffer, RegExp][] = [
  ['a line end', `${BODY}\n`, /gained a line end/],
  ['a CRLF', `${BODY}\r\n`, /gained a line end/],
  ['a byte order mark', `\uFEFF${BODY}`, /byte order mark/],
  ['pretty printing', JSON.stringify(JSON.parse(BODY), null, 2), /parsed and written anew/],
  ['blanks behind colons', BODY.replaceAll('":', '": '), /parsed and written anew/],
  ['escapes', BODY.replaceAll(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`), /escapes/],
  ['a wrong charset', Buffer.from(BODY).toString('latin1'), /Latin-1/],
]
for (const [name, body, advice] of BODIES) {
  test(`a body with ${name} is told in both families`, () => {
    const { standard, legacy } = look({ body })
    for (const verdict of [standard, legacy]) {
      assert.deepEqual(mistakes(verdict), ['body_changed'])
      assert.match(JSON.stringify(verdict), advice)
    }
  })
}

test('line ends that became CRLF are told when the signed body had LF', () => {
  const text = '{\n  "a": 1\n}'
  const headers = standardIs(hmac(decoded(SECRET), `${ID}.${SECONDS}.${text}`))
  const { standard } = look({ headers, body: text.replaceAll('\n', '\r\n') })
  assert.match(JSON.stringify(standard), /became CRLF/)
})

test('an empty body, and one whose keys were put in another order, are told as far as one can know', () => {
  assert.deepEqual(mistakes(look({ body: '' }).standard), ['empty_body'])
  const { data, api_version } = JSON.parse(BODY)
  assert.deepEqual(mistakes(look({ body: JSON.stringify({ data, api_version }) }).standard), ['wrong_secret'])
})

test('a mangled secret is told by what was done to it, and never printed', () => {
  for (const [secret, advice] of [
    [`${SECRET}\n`, /blanks or line ends/],
    [`"${SECRET}"`, /in quotes/],
    [SECRET.replace('+', '-').replace('/E', '_E'), /base64url/],
    [SECRET.slice(0, -1), /lacks = at its end/],
  ] as const) {
    const { standard, legacy } = look({ secret })
    for (const verdict of [standard, legacy]) {
      assert.deepEqual(mistakes(verdict), ['secret_mangled'])
      assert.match(JSON.stringify(verdict), advice)
      assert.ok(!JSON.stringify(verdict).includes('MfKQ9r8'))
    }
  }
})

test('without whsec_ the standard signature fits all the same, the legacy one does not', () => {
  const { standard, legacy } = look({ secret: SECRET.slice(6) })
  assert.deepEqual(standard, { ok: true })
  assert.match(JSON.stringify(legacy), /lacks whsec_/)
})

test('a legacy signature made with the mangled secret itself is told as well', () => {
  const secret = `${SECRET}\n`
  assert.deepEqual(mistakes(look({ secret, headers: legacyIs(hmac(secret, SHORT)) }).legacy), ['secret_mangled'])
})

test('a clock more than 5 minutes off is told in either direction, 5 minutes are not', () => {
  for (const [seconds, text] of [
    [301, '301 s in the past'],
    [-301, '301 s in the future'],
  ] as const) {
    const { standard, legacy } = look({ now: (SECONDS + seconds) * 1000 })
    for (const verdict of [standard, legacy]) {
      assert.deepEqual(mistakes(verdict), ['stale_timestamp'])
      assert.ok(JSON.stringify(verdict).includes(text))
    }
  }
  for (const seconds of [300, -300]) assert.deepEqual(look({ now: (SECONDS + seconds) * 1000 }).standard, { ok: true })
})

test('milliseconds for seconds are told, whichever of them was signed', () => {
  const ms = `${SECONDS}123`
  for (const signed of [ms, String(SECONDS)]) {
    const headers = { ...standardIs(hmac(decoded(SECRET), `${ID}.${signed}.${BODY}`)), 'webhook-timestamp': ms }
    assert.deepEqual(mistakes(look({ headers }).standard), ['timestamp_in_milliseconds'])
  }
})

test('two mistakes at once are both told', () => {
  const { standard } = look({ secret: ` ${SECRET}`, body: `${BODY}\n`, now: (SECONDS + 1000) * 1000 })
  assert.deepEqual(mistakes(standard), ['body_changed', 'secret_mangled', 'stale_timestamp'])
})

test('while rotating the new secret fits the standard header and the legacy one says why it does not', () => {
  const rotating = deliver([SECRET, OTHER])
  const withNew = look({ headers: rotating })
  assert.deepEqual(withNew.standard, { ok: true })
  assert.match(JSON.stringify(withNew.legacy), /being rotated/)
  assert.deepEqual(look({ headers: rotating, secret: OTHER }), { standard: { ok: true }, legacy: { ok: true } })
})

test('another secret is the last answer for both, and signatures of other versions are skipped', () => {
  const { standard, legacy } = look({ secret: OTHER })
  assert.deepEqual([mistakes(standard), mistakes(legacy)], [['wrong_secret'], ['wrong_secret']])
  assert.match(JSON.stringify(standard), /No known mistake/)
  const headers = { 'webhook-signature': `v1a,${'A'.repeat(86)}== ${deliver()['webhook-signature']}` }
  assert.deepEqual(look({ headers }).standard, { ok: true })
})
