/**
 * The way to real transports: each message is POSTed, signed, to a program of the operator's. That program tells what became
 * of it, and what came in, on the endpoint of gateway-routes.ts. The protocol is docs/gateway.md.
 * A message is taken once the gateway has answered 2xx; until then it is POSTed again with the same id.
 */
import type { Clock } from '../clock.ts'
import { bareHost, type EgressAllow } from '../remote/address.ts'
import { createRemote, type Remote } from '../remote/request.ts'
import { decodedKey, standardSignature } from '../webhooks/sign.ts'
import { type Carrier, CarrierRefused, type Outbound } from './carrier.ts'

/** Shorter than the worker's limit for a job, so that a gateway which hangs is an attempt like any other. */
const TIME_LIMIT_MS = 15_000
const ANSWER_LIMIT_BYTES = 64 * 1024

export type Gateway = {
  readonly url: string
  /** `whsec_` and base64: both directions are signed with it. */
  readonly secret: string
  /** For the messages to it, and for the media that it names. */
  readonly remote: Remote
}

/**
 * What the operator allows for all outgoing calls, and the gateway itself: naming it in SATCHEL_GATEWAY_URL is allowing it,
 * private address and plain http included. The caller disposes of it.
 */
export function createGatewayRemote(o: { url: string; allow: EgressAllow; userAgent: string }): Remote {
  const { hostname, port, protocol } = new URL(o.url)
  const gateway = { host: bareHost(hostname), port: Number(port || (protocol === 'https:' ? 443 : 80)) }
  return createRemote({
    allow: { hosts: [...o.allow.hosts, gateway], networks: o.allow.networks },
    userAgent: o.userAgent,
  })
}

/** The reference of a message is its own id: the gateway's answer has nothing that is needed. */
export function openGateway(o: Gateway & { clock: Pick<Clock, 'now'> }): Carrier {
  const key = decodedKey(o.secret)
  return {
    async send(message, signal) {
      const { id } = message
      const body = Buffer.from(JSON.stringify(messageJson(message)))
      const timestamp = Math.floor(o.clock.now() / 1000)
      const { status } = await o.remote.post(o.url, {
        headers: {
          'content-type': 'application/json',
          'webhook-id': id,
          'webhook-timestamp': String(timestamp),
          'webhook-signature': `v1,${standardSignature(key, { id, timestamp, body })}`,
          'idempotency-key': id,
        },
        body,
        timeoutMs: TIME_LIMIT_MS,
        maxResponseBytes: ANSWER_LIMIT_BYTES,
        signal,
      })
      judge(status)
      return { carrierRef: id }
    },
  }
}

function messageJson({ id, from, to, service, parts }: Outbound) {
  return { id, from, to, service, parts }
}

/**
 * 408 and 429 are the two of the 4xx that say "later" (RFC 9110, section 15.5.9; RFC 6585, section 4). 401 is about us and not
 * about the message: a secret that is being changed, a clock that is off.
 */
function judge(status: number): void {
  if (status >= 200 && status <= 299) return
  const cause = new Error(`the gateway answered ${status}`)
  if (status === 422) throw new CarrierRefused(4005, 'Recipient does not support this message type', { cause })
  if (status >= 400 && status <= 499 && ![401, 408, 429].includes(status)) {
    throw new CarrierRefused(4001, 'Message delivery failed', { cause })
  }
  throw cause
}
