/** A host on loopback that takes webhooks: it keeps every request to the letter and answers as it is told. */
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type LinqAPIV3 from '@linqapp/sdk'
import { Webhook } from 'standardwebhooks'

/** `headers` in lower case; `names` as they were spelt; `at` in ms since 1970; `event` is the body read as JSON. */
export type Delivery = {
  at: number
  method: string
  path: string
  headers: Record<string, string>
  names: string[]
  body: string
  event: WebhookEvent
}

/** The envelope. `data` names what tests look at; which of it an event has depends on its type. */
export type WebhookEvent = {
  event_type: string
  event_id: string
  trace_id: string
  created_at: string
  data: {
    id: string
    message_id: string
    chat_id: string
    chat: { id: string }
    message: { id: string }
    code: number
    parts: { type: string; value: string; id: string; url: string; filename: string; mime_type: string }[]
  }
}

export type Answer = (response: ServerResponse, delivery: Delivery) => void

export type Receiver = {
  readonly port: number
  /** `http://127.0.0.1:<port><path>`. */
  url(path?: string): string
  readonly deliveries: Delivery[]
  /** What the next requests are answered with; 200 at the start. */
  answer: Answer
  /** Deliveries whose path begins with `path`. */
  at(path: string): Delivery[]
  [Symbol.asyncDispose](): Promise<void>
}

/** With `port` it takes a certain one, such as that of a receiver that was down. */
export async function openReceiver(o: { port?: number } = {}): Promise<Receiver> {
  const deliveries: Delivery[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk)
    } catch {
      return
    }
    const body = Buffer.concat(chunks).toString('utf8')
    const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)]))
    const names = request.rawHeaders.filter((_, index) => index % 2 === 0)
    const { method = '', url: path = '' } = request
    const delivery = { at: Date.now(), method, path, headers, names, body, event: JSON.parse(body) as WebhookEvent }
    deliveries.push(delivery)
    receiver.answer(response, delivery)
  })
  server.listen(o.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const receiver: Receiver = {
    port,
    url: (path = '/') => `http://127.0.0.1:${port}${path}`,
    deliveries,
    answer: (response) => void response.writeHead(200).end(),
    at: (path) => deliveries.filter((delivery) => delivery.path.startsWith(path)),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return receiver
}

/** Answers with these statuses in turn, and with 200 after the last. */
export function inTurn(...answers: (number | { status: number; headers: Record<string, string> })[]): Answer {
  return (response) => {
    const next = answers.shift() ?? 200
    if (typeof next === 'number') response.writeHead(next).end()
    else response.writeHead(next.status, next.headers).end()
  }
}

/** A free port on which nobody listens. */
export async function deadPort(): Promise<number> {
  await using receiver = await openReceiver()
  return receiver.port
}

type NewSubscription = LinqAPIV3.WebhookSubscriptionCreateParams
type Subscribed = LinqAPIV3.WebhookSubscriptionCreateResponse

export function subscribe(
  client: LinqAPIV3,
  target_url: string,
  subscribed_events: NewSubscription['subscribed_events'],
  more: Partial<NewSubscription> = {},
): Promise<Subscribed> {
  return client.webhookSubscriptions.create({ target_url, subscribed_events, ...more })
}

/** Both signatures, each by another implementation than the server's: the standard one by its library, the legacy by hand. */
export function assertSigned(delivery: Pick<Delivery, 'headers' | 'body'>, secret: string): void {
  const { headers, body } = delivery
  new Webhook(secret).verify(body, headers)
  const legacy = createHmac('sha256', secret).update(`${headers['x-webhook-timestamp']}.${body}`).digest('hex')
  assert.equal(headers['x-webhook-signature'], legacy)
  assert.equal(headers['x-webhook-timestamp'], headers['webhook-timestamp'])
}
