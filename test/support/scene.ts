/** What the API tests set up again and again: a file that is uploaded, a chat, another partner, and looks at what is kept. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type LinqAPIV3 from '@linqapp/sdk'
import { countRows } from './database.ts'
import { filesBelow } from './packs.ts'
import { runCli, type Server } from './satchel.ts'

export type Declared = { filename: string; content_type: string; size_bytes: number }

/** Creates and PUTs; what the content is worth is then for the server to say. */
export async function upload(client: LinqAPIV3, bytes: Uint8Array, filename: string, content_type: string) {
  const declared = { filename, content_type, size_bytes: bytes.length } as Declared
  const created = await client.attachments.create(declared as LinqAPIV3.AttachmentCreateParams)
  const { upload_url, http_method, required_headers } = created
  const put = await fetch(upload_url, { method: http_method, headers: required_headers, body: Buffer.from(bytes) })
  assert.equal(put.status, 200, await put.text())
  return created
}

export const text = (value: string) => ({ type: 'text' as const, value })

/** The chat of the server's first line with these people, begun with a greeting. */
export async function openChat(server: Server, ...to: string[]): Promise<string> {
  const { chat } = await server.client().chats.create({ from: lineOf(server), to, message: { parts: [text('Hello')] } })
  return chat.id
}

export function lineOf(server: Server): string {
  const [line] = server.phoneNumbers
  assert.ok(line)
  return line
}

export function postJson(server: Server, path: string, body: unknown, init: RequestInit & { apiKey?: string } = {}) {
  const headers = { 'content-type': 'application/json', ...init.headers }
  return server.call(path, { method: 'POST', ...init, headers, body: JSON.stringify(body) })
}

export async function createPartner(server: Server, phoneNumber: string) {
  const args = ['partners', 'create', '--name', 'another', '--phone', phoneNumber, '--json']
  const { code, stdout, stderr } = await runCli(args, server.env)
  assert.equal(code, 0, stderr)
  const { partner_id, api_key } = JSON.parse(stdout) as { partner_id: string; api_key: string }
  return { partnerId: partner_id, apiKey: api_key, phoneNumber, client: server.client({ apiKey: api_key }) }
}

/** Asks until the answer is good; a generous limit, since machines are slow now and then. */
export async function eventually<T>(ask: () => Promise<T>, good: (value: T) => boolean, limitMs = 60_000): Promise<T> {
  const end = Date.now() + limitMs
  for (;;) {
    const value = await ask()
    if (good(value)) return value
    assert.ok(Date.now() < end, `not within ${limitMs} ms: ${JSON.stringify(value)}`)
    await sleep(50)
  }
}

/** Everything the server keeps: how many rows of each kind, and the files of the storage and of the spool. */
export async function keptBy(server: Server) {
  const rows = await countRows(server)
  const files = (folder: string) => filesBelow(join(server.dataDir, folder))
  return {
    attachments: rows.attachments ?? 0,
    chats: rows.chats ?? 0,
    messages: rows.messages ?? 0,
    keys: rows.idempotency_keys ?? 0,
    files: [...(await files('files')), ...(await files('spool'))].sort(),
  }
}
