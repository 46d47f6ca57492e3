/**
 * `satchel listen`: brings webhooks to a program on this computer without a public address. Follows the events of the
 * partner whose key it has and posts each one to a local URL, with the headers and signatures of a real delivery.
 * One at a time, in the order they happened; a failed one is shown and not tried again.
 */
import { randomUUID } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { VERSION } from '../version.ts'
import { EVENT_TYPES } from '../webhooks/events.ts'
import { deliveryHeaders, newSigningSecret } from '../webhooks/sign.ts'
import {
  API_HELP,
  API_OPTIONS,
  type Api,
  CallFailed,
  type ClientEnvironment,
  call,
  findApi,
  reasonOf,
} from './client.ts'
import { readEventStream, type StreamedEvent } from './event-stream.ts'

const HELP = `satchel listen --forward-to URL [--secret SECRET] [--events TYPE,...] [--url ORIGIN] [--key API_KEY]

Posts every event to URL as a webhook delivery, signed, until Ctrl-C. No subscription is needed.

  --forward-to URL where your program takes webhooks, such as localhost:3000/webhooks
  --secret SECRET  sign with this whsec_... secret; without it one is made and printed
  --events TYPE,.. only these, such as message.received,message.read
${API_HELP}
`

const ANSWER_LIMIT_MS = 10_000
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 30_000

/** `signal` ends it as Ctrl-C does. */
export type ListenOptions = { env?: ClientEnvironment; signal?: AbortSignal; firstPauseMs?: number }

export async function listen(argv: string[], out: Out, o: ListenOptions = {}): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      'forward-to': { type: 'string' },
      secret: { type: 'string' },
      events: { type: 'string', multiple: true },
      ...API_OPTIONS,
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const wrong = (why: string) => {
    out.stderr(`satchel: ${why}; see satchel listen --help\n`)
    return 2
  }
  const target = readTarget(values['forward-to'] ?? '')
  if (!target) return wrong('--forward-to needs the URL of your program, such as http://localhost:3000/webhooks')
  const { secret = newSigningSecret() } = values
  if (!/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(secret)) return wrong('--secret must be whsec_ and standard base64')
  const types = (values.events ?? []).flatMap((text) => text.split(',')).map((text) => text.trim())
  const unknown = types.find((type) => !EVENT_TYPES.some((known) => known === type))
  if (unknown !== undefined) return wrong(`"${unknown}" is not an event; there are ${EVENT_TYPES.join(', ')}`)
  const api = findApi(values, o.env)
  if (typeof api === 'string') return wrong(api)

  if (values.secret === undefined) out.stdout(`LINQ_WEBHOOK_SECRET=${secret}\n`)
  using stop = stopSignal(o.signal)
  const forward = { target, secret, types, subscriptionId: randomUUID(), signal: stop.signal }
  try {
    return await follow(api, forward, out, o.firstPauseMs ?? FIRST_PAUSE_MS)
  } catch (error) {
    if (stop.signal.aborted) return 0
    throw error
  }
}

type Forward = { target: string; secret: string; types: string[]; subscriptionId: string; signal: AbortSignal }

/** Returns when the API refuses, throws when aborted; else goes on for ever. */
async function follow(api: Api, forward: Forward, out: Out, firstPauseMs: number): Promise<number> {
  let lastEventId = ''
  let pauseMs = firstPauseMs
  for (;;) {
    let why: string
    try {
      const response = await call(api, '/sandbox/events', {
        headers: { accept: 'text/event-stream', ...(lastEventId && { 'last-event-id': lastEventId }) },
        signal: forward.signal,
      })
      out.stdout(`Listening to ${api.origin}, forwarding to ${forward.target}. Ctrl-C ends it.\n`)
      pauseMs = firstPauseMs
      for await (const event of response.body ? readEventStream(response.body) : []) {
        const isWanted = forward.types.length === 0 || forward.types.includes(event.event)
        if (isWanted && event.data !== '') await post(event, forward, out)
        lastEventId = event.id
      }
      why = 'the server ended the connection'
    } catch (error) {
      if (forward.signal.aborted) throw error
      if (error instanceof CallFailed && error.status >= 300 && error.status < 500 && error.status !== 429) {
        out.stderr(`satchel: ${error.message}\n`)
        return 1
      }
      why = error instanceof CallFailed ? error.message : `the connection broke off (${reasonOf(error)})`
    }
    out.stderr(`satchel: ${why} (trying again in ${pauseMs / 1000} s)\n`)
    await sleep(pauseMs, undefined, { signal: forward.signal })
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
  }
}

/** Prints one line: time, type, id, status or error, milliseconds. Throws only when aborted. */
async function post({ id, event, data }: StreamedEvent, forward: Forward, out: Out): Promise<void> {
  const at = Date.now()
  const started = performance.now()
  let result: string
  try {
    const { trace_id: traceId, webhook_version: version } = JSON.parse(data)
    const { subscriptionId, secret } = forward
    const headers = deliveryHeaders({
      ...{ secrets: [secret], eventId: id, eventType: event, subscriptionId, traceId, version, body: data, at },
      userAgent: `Satchel/${VERSION} (listen)`,
    })
    const signal = AbortSignal.any([forward.signal, AbortSignal.timeout(ANSWER_LIMIT_MS)])
    const response = await fetch(forward.target, { method: 'POST', headers, body: data, redirect: 'manual', signal })
    await response.body?.cancel()
    result = String(response.status)
  } catch (error) {
    forward.signal.throwIfAborted()
    result = reasonOf(error)
  }
  const time = new Date(at).toTimeString().slice(0, 8)
  out.stdout(`${time}  ${event.padEnd(18)}  ${id}  ${result}  ${Math.round(performance.now() - started)} ms\n`)
}

/** `localhost:3000/x` is taken for http, as people write it. */
function readTarget(text: string): string | undefined {
  if (text === '') return undefined
  const url = URL.parse(/^[a-z]+:\/\//i.test(text) ? text : `http://${text}`)
  return url && /^https?:$/.test(url.protocol) ? url.href : undefined
}

function stopSignal(other?: AbortSignal): Disposable & { signal: AbortSignal } {
  const controller = new AbortController()
  const stop = () => controller.abort()
  const signals = ['SIGINT', 'SIGTERM'] as const
  for (const name of signals) process.once(name, stop)
  return {
    signal: other ? AbortSignal.any([controller.signal, other]) : controller.signal,
    [Symbol.dispose]: () => {
      for (const name of signals) process.off(name, stop)
    },
  }
}
