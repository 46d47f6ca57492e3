/**
 * The headers of a webhook delivery. Two signatures go out with each one, made of the exact bytes of the body:
 * the standard one (https://www.standardwebhooks.com: key = the decoded part behind `whsec_`, base64) and the legacy one
 * (key = the whole text of the secret, hex). Receivers refuse a timestamp 5 minutes off: make the headers anew for each try.
 */
import { createHmac, createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import { newTraceId } from '../ids.ts'

export const SECRET_PREFIX = 'whsec_'

type Signed = { timestamp: number | string; body: Buffer | string }

/** `whsec_` and the standard base64, with padding, of 32 random bytes. */
export function newSigningSecret(): string {
  return SECRET_PREFIX + randomBytes(32).toString('base64')
}

/** The standard signature without its `v1,`. */
export function standardSignature(key: Buffer | KeyObject, o: Signed & { id: string }): string {
  return createHmac('sha256', key).update(`${o.id}.${o.timestamp}.`).update(o.body).digest('base64')
}

export function legacySignature(key: Buffer | KeyObject, o: Signed): string {
  return createHmac('sha256', key).update(`${o.timestamp}.`).update(o.body).digest('hex')
}

/** The key of the standard scheme. */
export function decodedKey(secret: string): Buffer {
  return Buffer.from(secret.startsWith(SECRET_PREFIX) ? secret.slice(SECRET_PREFIX.length) : secret, 'base64')
}

/** The key of the legacy scheme. */
export function textKey(secret: string): Buffer {
  return Buffer.from(secret, 'utf8')
}

type Keys = { standard: KeyObject; legacy: KeyObject }

/** An HMAC with a KeyObject costs a seventh of one with a Buffer, and a subscription signs with the same secret for months. */
const knownKeys = new Map<string, Keys>()
const KEYS_KEPT = 1_000

function keysOf(secret: string): Keys {
  const known = knownKeys.get(secret)
  if (known) return known
  if (knownKeys.size >= KEYS_KEPT) knownKeys.clear()
  const keys = { standard: createSecretKey(decodedKey(secret)), legacy: createSecretKey(textKey(secret)) }
  knownKeys.set(secret, keys)
  return keys
}

export type DeliveryHeaders = {
  /** Newest first; two while rotating. */
  secrets: readonly [string, ...string[]]
  eventId: string
  eventType: string
  subscriptionId: string
  /** 32 hex digits, that of the request which caused the event. */
  traceId: string
  /** Of the payload, such as 2026-02-03. */
  version: string
  body: Buffer | string
  /** The time of this try, in ms since 1970. */
  at: number
  userAgent: string
}

/**
 * All headers but content-length. `webhook-signature` has one signature for each secret, newest first. The legacy header can
 * hold one only: while rotating that is the old secret's, since that is what receivers check until they switch.
 * Names that HTTP clients set by themselves are lower-case, so that these replace theirs.
 */
export function deliveryHeaders(o: DeliveryHeaders): Record<string, string> {
  const timestamp = Math.floor(o.at / 1000)
  const signed = { id: o.eventId, timestamp, body: o.body }
  const oldest = o.secrets.at(-1) ?? o.secrets[0]
  return {
    'content-type': 'application/json',
    'user-agent': o.userAgent,
    'webhook-id': o.eventId,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': o.secrets
      .map((secret) => `v1,${standardSignature(keysOf(secret).standard, signed)}`)
      .join(' '),
    'X-Webhook-Event': o.eventType,
    'X-Webhook-Subscription-ID': o.subscriptionId,
    'X-Webhook-Timestamp': String(timestamp),
    'X-Webhook-Signature': legacySignature(keysOf(oldest).legacy, signed),
    'x-webhook-payload-version': o.version,
    traceparent: `00-${o.traceId}-${newTraceId().slice(16)}-01`,
  }
}
