/**
 * Every table that moves, in the order in which rows may refer to each other. A new table that is forgotten here does not
 * compile. Secrets move apart (they are files with SQLite), and what is known of a move stays where it is.
 */
import { type Kysely, sql } from 'kysely'
import type { Db, Schema } from '../db/schema.ts'

export type Value = string | number | null
export type AnyRow = Record<string, Value>
/** Tables by name: what moves rows need not know what they mean. */
export type Tables = Kysely<Record<string, AnyRow>>

type Moving = Exclude<keyof Schema, 'secrets' | 'migrated_data'>

/** `key`: what tells rows apart. `by`: the column of it that finds a row best. */
const TABLES: Record<Moving, { key: readonly string[]; by: string }> = {
  partners: { key: ['id'], by: 'id' },
  api_keys: { key: ['key_hash'], by: 'key_hash' },
  phone_numbers: { key: ['id'], by: 'id' },
  attachments: { key: ['id'], by: 'id' },
  attachment_deletions: { key: ['attachment_id'], by: 'attachment_id' },
  chats: { key: ['id'], by: 'id' },
  chat_handles: { key: ['id'], by: 'id' },
  messages: { key: ['id'], by: 'id' },
  message_parts: { key: ['message_id', 'position'], by: 'message_id' },
  idempotency_keys: { key: ['partner_id', 'key'], by: 'key' },
  webhook_subscriptions: { key: ['id'], by: 'id' },
  events: { key: ['id'], by: 'id' },
  webhook_deliveries: { key: ['id'], by: 'id' },
  webhook_attempts: { key: ['id'], by: 'id' },
  jobs: { key: ['id'], by: 'id' },
}

export type Table = { name: string; key: readonly string[]; by: string }
export const tables: readonly Table[] = Object.entries(TABLES).map(([name, about]) => ({ name, ...about }))

export const asTables = (db: Db): Tables => db as unknown as Tables

/** The next rows behind a key, in the order of this database. */
export function pageOf(
  db: Tables,
  { name, key }: Table,
  after: readonly Value[] | null,
  limit: number,
): Promise<AnyRow[]> {
  let query = db.selectFrom(name).selectAll().limit(limit)
  if (after)
    query = query.where(sql<boolean>`(${sql.join(key.map((column) => sql.ref(column)))}) > (${sql.join(after)})`)
  for (const column of key) query = query.orderBy(sql.ref(column))
  return query.execute() as Promise<AnyRow[]>
}

export const keyOf = ({ key }: Table, row: AnyRow): Value[] => key.map((column) => row[column] ?? null)
