/**
 * What a gateway tells us: the JSON of its events, and the signature that they carry. Signing is that of Standard Webhooks
 * (https://www.standardwebhooks.com), over the exact bytes of the body.
 */
import { timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { type Static, type TSchema, Type } from 'typebox'
import { Failure } from '../failure.ts'
import { parseJsonBody } from '../http/json-body.ts'
import { Time, Uuid } from '../http/schemas.ts'
import { decodedKey, standardSignature } from '../webhooks/sign.ts'

const TOLERANCE_SECONDS = 300
/** The end of the year 9999, the last that RFC 3339 can write. */
const LAST_MS = 253_402_300_799_999

const At = Type.Optional({ ...Time, description: 'When it happened; when it came in, if absent' })
const Handle = (about: string) => Type.String({ minLength: 1, maxLength: 254, description: about })

const Progress = Type.Object({
  type: Type.Enum(['sent', 'delivered', 'read']),
  message_id: Uuid,
  at: At,
})
const Failed = Type.Object({
  type: Type.Literal('failed'),
  message_id: Uuid,
  code: Type.Optional(Type.Enum([3007, 4001, 4005], { description: 'Goes into message.failed; default 4001' })),
  reason: Type.Optional(Type.String({ minLength: 1, maxLength: 500, description: 'Goes into message.failed' })),
  at: At,
})
const Media = Type.Object({
  url: Type.String({ minLength: 1, maxLength: 2048, description: 'https; a file of at most 100 MB' }),
  filename: Type.Optional(Type.String({ description: 'Default: the last segment of the URL' })),
})
const Received = Type.Object({
  type: Type.Literal('received'),
  carrier_ref: Type.String({ minLength: 1, maxLength: 255, description: 'What the gateway calls this message' }),
  from: Handle('Who sent it: E.164 number or e-mail address'),
  to: Handle('The line of ours that it was sent to'),
  others: Type.Optional(Type.Array(Handle('A member of the group'), { maxItems: 30, description: 'Of a group' })),
  text: Type.Optional(Type.String({ maxLength: 100_000 })),
  service: Type.Optional(Type.Enum(['iMessage', 'SMS', 'RCS'], { description: 'Default iMessage' })),
  media: Type.Optional(Type.Array(Media, { maxItems: 20 })),
  at: At,
})

export type ReceivedEvent = Static<typeof Received>
export type GatewayEvent = Static<typeof Progress> | Static<typeof Failed> | ReceivedEvent

/** Told apart by `type`, so that a refusal names the field and not "anyOf". */
const byType = <T>(...oneOf: TSchema[]) =>
  Type.Unsafe<T>({ type: 'object', discriminator: { propertyName: 'type' }, required: ['type'], oneOf })

export const GatewayEvent = byType<GatewayEvent>(Progress, Failed, Received)
export const Taken = Type.Object(
  { chat_id: Type.Optional(Uuid), message_id: Type.Optional(Uuid) },
  { description: 'Both of them for what was received, else neither' },
)
export const SignatureHeaders = Type.Object({
  'webhook-id': Type.String({ maxLength: 255, description: 'Of the event; the same for each try' }),
  'webhook-timestamp': Type.String({ description: 'Unix seconds of this try' }),
  'webhook-signature': Type.String({ description: '`v1,` and base64; several with blanks between' }),
})

const TYPES = ['sent', 'delivered', 'read', 'failed', 'received']

/** The body as an object with a known `type`; everything else is the schema's to say. Failures: as parseJsonBody, and two. */
export function parseEvent(raw: Buffer): unknown {
  const event = parseJsonBody(raw)
  if (event === undefined) throw new Failure('bad_body', 'The body must be a JSON object')
  const { type } = event as { type?: unknown }
  if (type === undefined) throw new Failure('missing_field', 'Missing required field: type')
  if (!TYPES.some((known) => known === type)) {
    throw new Failure('bad_parameter', `type must be one of ${TYPES.join(', ')}`)
  }
  return event
}

/** ms since 1970; `now` when absent. The schema lets through a leap second, and offsets that leave the years we can write. */
export function parseAt(at: string | undefined, now: number): number {
  if (at === undefined) return now
  const ms = Date.parse(at)
  if (!(ms >= 0 && ms <= LAST_MS)) throw new Failure('bad_parameter', 'at must be a time from 1970 to 9999')
  return ms
}

/** Returns the id of the event. Failure unauthorized. `now` in ms. */
export function checkSignature(o: { secret: string; headers: IncomingHttpHeaders; body: Buffer; now: number }): string {
  const [id, timestamp, signatures] = ['id', 'timestamp', 'signature'].map((name) => {
    const value = o.headers[`webhook-${name}`]
    if (typeof value !== 'string' || value === '') throw refused(`The header webhook-${name} is missing`)
    return value
  }) as [string, string, string]
  if (!/^\d{1,12}$/.test(timestamp)) throw refused('webhook-timestamp must be Unix seconds')
  if (Math.abs(o.now / 1000 - Number(timestamp)) > TOLERANCE_SECONDS) {
    throw refused('webhook-timestamp is more than 5 minutes off')
  }
  const expected = Buffer.from(standardSignature(decodedKey(o.secret), { id, timestamp, body: o.body }))
  const fits = signatures.split(' ').filter((token) => {
    const given = Buffer.from(token.startsWith('v1,') ? token.slice(3) : '')
    return given.length === expected.length && timingSafeEqual(given, expected)
  })
  if (fits.length === 0) throw refused('webhook-signature does not fit this body, id and timestamp')
  return id
}

const refused = (message: string) => new Failure('unauthorized', message)
