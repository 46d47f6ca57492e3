/** The rows that the databases' suite begins with, and who works on them. */
import assert from 'node:assert/strict'
import type { App } from '../app.ts'
import { findOrCreateChat } from '../chats/open.ts'
import { type Chat, findChat } from '../chats/rows.ts'
import { systemClock } from '../clock.ts'
import { uuidv7 } from '../ids.ts'
import { acceptMessage } from '../messages/accept.ts'
import { insertPartner } from '../partners/rows.ts'
import type { Pair } from './conformance.ts'
import type { Opened } from './schema.ts'
import { inTransaction } from './transaction.ts'

export const newId = uuidv7(systemClock)

export const LINE = '+12025550100'

const NONE = { parts: [{ type: 'text' as const, value: 'Hello', text_decorations: null }], fetched: [] }

export const sides = (pair: Pair, count: number): Opened[] =>
  Array.from({ length: count }, (_, index) => (index % 2 ? pair.a : pair.b))

export function appOf({ db }: Pick<Opened, 'db'>) {
  const signingKey = { accessKeyId: 'satchel', secretAccessKey: 'secret', region: 'local' }
  const urls = { api: 'http://api.test', cdn: 'http://cdn.test' }
  return { db, clock: systemClock, newId, urls, sandbox: undefined, signingKey } satisfies Partial<App>
}

export async function newPartner({ db }: Opened): Promise<string> {
  const id = newId()
  await insertPartner(db, { id, name: 'x', created_at: 1 }, newId())
  return id
}

export async function newChat(opened: Opened): Promise<Chat> {
  const partnerId = await newPartner(opened)
  const who = { partnerId, phoneNumber: LINE, recipients: ['+14155550100'] }
  const { chat } = await inTransaction(opened.db, (tx) =>
    findOrCreateChat(tx, { newId }, who, { service: 'iMessage', now: 1 }),
  )
  return (await findChat(opened.db, partnerId, chat.id)) ?? assert.fail()
}

export const accept = (tx: Opened['db'], chat: Chat) => {
  const app = { ...appOf({ db: tx }), purge: undefined }
  return acceptMessage(tx, app, { chat, resolved: NONE, content: {}, traceId: 't', now: Date.now() })
}
