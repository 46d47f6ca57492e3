/**
 * A small gateway for tests: keeps every POST and the messages in them by id, answers as it is told, serves files that phones
 * have sent, and reports to Satchel, signed by the reference library.
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createPlainServer, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'
import type { Certificates } from '../support/certificates.ts'

export const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw7Jxx2Oll+OE='
export const OTHER_SECRET = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD3JxxiOll+wE='

export type Part =
  | { type: 'text'; text: string }
  | { type: 'link'; url: string }
  | { type: 'media'; url: string; content_type: string; filename: string; size_bytes: number }
export type Message = { id: string; from: string; to: string[]; service: string; parts: Part[] }
export type Post = { headers: Record<string, string>; body: string; message: Message }

export type GatewayDouble = {
  readonly port: number
  readonly url: string
  /** Each POST as it came, repeated ones too. */
  readonly posts: Post[]
  /** What it would send: each message once. */
  readonly messages: Map<string, Message>
  /** Answers the next POSTs; 202 at the start. A message counts as taken when the answer is 2xx or does not come. */
  answer: (response: ServerResponse, message: Message) => void
  /** Files under `/media/<name>`. */
  readonly files: Map<string, Buffer>
  /** Called for each download with what lets it go; at once at the start. */
  hold: (go: () => void) => void
  [Symbol.asyncDispose](): Promise<void>
}

/** On a free port of 127.0.0.1 or on `port`; https with `certificates`. */
export async function openGatewayDouble(
  o: { port?: number; certificates?: Certificates } = {},
): Promise<GatewayDouble> {
  const server = o.certificates ? createTlsServer(o.certificates) : createPlainServer()
  server.on('request', async (request, response) => {
    const body = Buffer.concat(await request.toArray().catch(() => []))
    if (request.method === 'GET') {
      const file = double.files.get(request.url?.replace('/media/', '') ?? '')
      double.hold(() => response.writeHead(file ? 200 : 404).end(file ?? 'no such file'))
      return
    }
    const message = JSON.parse(body.toString()) as Message
    double.posts.push({ headers: request.headers as Record<string, string>, body: body.toString(), message })
    double.answer(response, message)
    if (!response.headersSent || response.statusCode < 300) double.messages.set(message.id, message)
  })
  server.listen(o.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const double: GatewayDouble = {
    port,
    url: o.certificates ? `https://localhost:${port}/messages` : `http://127.0.0.1:${port}/messages`,
    posts: [],
    messages: new Map(),
    files: new Map(),
    hold: (go) => go(),
    answer: accept,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return double
}

export const accept: GatewayDouble['answer'] = (response) => {
  response.writeHead(202, { 'content-type': 'application/json' }).end('{"carrier_ref":"ignored"}')
}
export const answerWith =
  (status: number): GatewayDouble['answer'] =>
  (response) => {
    response.writeHead(status, status < 400 ? { location: '/elsewhere' } : {}).end('explanation that nobody may see')
  }

export type Signing = { id?: string; at?: number; secret?: string }

export function signedHeaders(body: string, o: Signing = {}): Record<string, string> {
  const { id = randomUUID(), at = Date.now(), secret = SECRET } = o
  return {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(at / 1000)),
    'webhook-signature': new Webhook(secret).sign(id, new Date(at), body),
  }
}

/** POSTs an event to the API at `api`, signed. */
export function report(api: string, event: unknown, o: Signing = {}): Promise<Response> {
  const body = typeof event === 'string' ? event : JSON.stringify(event)
  return fetch(`${api}/gateway/events`, { method: 'POST', headers: signedHeaders(body, o), body })
}
