import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import LinqAPIV3 from '@linqapp/sdk'
import { Webhook } from 'standardwebhooks'
import { decodedKey, deliveryHeaders, newSigningSecret, standardSignature } from './sign.ts'

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw7Jxx2Oll+OE='
const OLD_SECRET = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD3JxxiOll+wE='
const BODY = '{"api_version":"v3","data":{"text":"Grüße 👋"}}'

function headersOf(o: { secrets?: [string, ...string[]]; body?: Buffer | string; at?: number } = {}) {
  return deliveryHeaders({
    secrets: [SECRET],
    eventId: '0190b7c8-0000-7000-8000-000000000001',
    eventType: 'message.received',
    subscriptionId: 'b2c3d4e5-f6a7-4901-8cde-f23456789012',
    traceId: '2eff5df5c6f688733c007523c4d61cd9',
    version: '2026-02-03',
    body: BODY,
    at: Date.now(),
    userAgent: 'Satchel/1.0',
    ...o,
  })
}

test('the published vector of Standard Webhooks', () => {
  const key = decodedKey('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')
  const signed = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', timestamp: 1614265330, body: '{"test": 2432232314}' }
  assert.equal(standardSignature(key, signed), 'g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
})

test('all headers, with their spelling and values', () => {
  const headers = headersOf({ at: 1_771_243_200_999 })
  const { traceparent, 'webhook-signature': standard, 'X-Webhook-Signature': legacy, ...rest } = headers
  assert.deepEqual(rest, {
    'content-type': 'application/json',
    'user-agent': 'Satchel/1.0',
    'webhook-id': '0190b7c8-0000-7000-8000-000000000001',
    'webhook-timestamp': '1771243200',
    'X-Webhook-Event': 'message.received',
    'X-Webhook-Subscription-ID': 'b2c3d4e5-f6a7-4901-8cde-f23456789012',
    'X-Webhook-Timestamp': '1771243200',
    'x-webhook-payload-version': '2026-02-03',
  })
  assert.match(traceparent ?? '', /^00-2eff5df5c6f688733c007523c4d61cd9-[0-9a-f]{16}-01$/)
  assert.match(standard ?? '', /^v1,[A-Za-z0-9+/]{43}=$/)
  assert.match(legacy ?? '', /^[0-9a-f]{64}$/)
})

test('each delivery has a span of its own in the trace', () => {
  assert.notEqual(headersOf().traceparent, headersOf().traceparent)
})

test('openssl makes the same legacy signature with the text of the secret as the key', () => {
  const args = ['dgst', '-sha256', '-mac', 'HMAC', '-macopt', `hexkey:${Buffer.from(SECRET).toString('hex')}`, '-r']
  const expected = execFileSync('openssl', args, { input: `1771243200.${BODY}`, encoding: 'utf8' }).split(' ')[0]
  assert.equal(headersOf({ at: 1_771_243_200_000 })['X-Webhook-Signature'], expected)
})

test('the reference library and the official SDK verify a delivery', () => {
  const headers = headersOf()
  const parsed = JSON.parse(BODY)
  assert.deepEqual(new Webhook(SECRET).verify(BODY, headers), parsed)
  const client = new LinqAPIV3({ apiKey: 'unused' })
  assert.deepEqual(client.webhooks.unwrap(BODY, { headers, key: SECRET }), parsed)
  assert.throws(() => client.webhooks.unwrap(`${BODY} `, { headers, key: SECRET }), /No matching signature/)
  assert.throws(() => client.webhooks.unwrap(BODY, { headers, key: OLD_SECRET }), /No matching signature/)
})

test('a text and its bytes are signed alike', () => {
  const [ofText, ofBytes] = [headersOf({ at: 0 }), headersOf({ at: 0, body: Buffer.from(BODY) })]
  assert.equal(ofText['webhook-signature'], ofBytes['webhook-signature'])
  assert.equal(ofText['X-Webhook-Signature'], ofBytes['X-Webhook-Signature'])
})

test('while rotating both secrets verify, newest first, and the legacy header keeps to the old one', () => {
  const at = Date.now()
  const headers = headersOf({ at, secrets: [SECRET, OLD_SECRET] })
  new Webhook(SECRET).verify(BODY, headers)
  new Webhook(OLD_SECRET).verify(BODY, headers)
  const [alone, old] = [headersOf({ at }), headersOf({ at, secrets: [OLD_SECRET] })]
  assert.equal(headers['webhook-signature'], `${alone['webhook-signature']} ${old['webhook-signature']}`)
  assert.equal(headers['X-Webhook-Signature'], old['X-Webhook-Signature'])
})

test('a new secret is whsec_ and the padded base64 of 32 bytes, and never the same', () => {
  const secret = newSigningSecret()
  assert.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/)
  assert.equal(decodedKey(secret).length, 32)
  assert.notEqual(secret, newSigningSecret())
})
