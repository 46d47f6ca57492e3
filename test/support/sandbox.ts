/** The sandbox's own calls, as a test that plays the phone makes them. */
import assert from 'node:assert/strict'
import type { Server } from './satchel.ts'

/** A request under /sandbox with the API key; an object as `json` makes it a POST of that. */
export function sandbox(
  server: Server,
  path: string,
  { json, apiKey = server.apiKey, ...init }: RequestInit & { json?: unknown; apiKey?: string } = {},
): Promise<Response> {
  const sent = json === undefined ? {} : { method: 'POST', body: JSON.stringify(json) }
  const type = json === undefined ? {} : { 'content-type': 'application/json' }
  const headers = { authorization: `Bearer ${apiKey}`, ...type, ...init.headers }
  return fetch(`${server.api}/sandbox${path}`, { ...sent, ...init, headers })
}

/** The answer's JSON, once it was the status that is expected. */
export async function ok<T>(answer: Response | Promise<Response>, status = 200): Promise<T> {
  const { status: found, ...rest } = await read(await answer)
  assert.equal(found, status, rest.text)
  return (rest.text === '' ? null : JSON.parse(rest.text)) as T
}

async function read(answer: Response) {
  return { status: answer.status, text: await answer.text() }
}

export type PhoneMessage = {
  from: string
  to: string
  text?: string
  service?: string
  media?: { bytes: Uint8Array; filename: string }[]
}

/** A message from a phone to a line, as multipart. */
export function writeIn(server: Server, { media = [], ...fields }: PhoneMessage, o: { apiKey?: string } = {}) {
  const form = new FormData()
  for (const [name, value] of Object.entries(fields)) form.append(name, value)
  for (const { bytes, filename } of media) form.append('media', new Blob([Buffer.from(bytes)]), filename)
  return sandbox(server, '/messages', { method: 'POST', body: form, ...o })
}

export async function receive(server: Server, message: PhoneMessage) {
  return await ok<{ chat_id: string; message_id: string }>(writeIn(server, message), 201)
}

export async function advance(server: Server, seconds: number): Promise<void> {
  await ok(sandbox(server, '/clock', { json: { advance_seconds: seconds } }))
}

export async function arm(server: Server, fault: object, o: { apiKey?: string } = {}) {
  return await ok<{ id: string; kind: string; remaining: number }>(
    sandbox(server, '/faults', { json: fault, ...o }),
    201,
  )
}

export type Listed = {
  id: string
  event_id: string
  event_type: string
  message_id: string | null
  subscription_id: string
  status: 'pending' | 'delivered' | 'failed'
  created_at: string
  next_attempt_at: string | null
  last_error: string | null
  attempts: {
    started_at: string
    latency_ms: number
    status: number | null
    error: string | null
    request: { url: string; headers: Record<string, string>; body: string }
  }[]
}

/** What the sandbox knows of deliveries, newest first; `query` as in `?status=failed`. */
export async function listDeliveries(server: Server, query = '?limit=100'): Promise<Listed[]> {
  return (await ok<{ deliveries: Listed[] }>(sandbox(server, `/webhook-deliveries${query}`))).deliveries
}
