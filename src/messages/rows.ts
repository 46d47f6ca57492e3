/** Messages and their parts. */
import type { AttachmentRow } from '../attachments/rows.ts'
import { prepared } from '../db/prepared.ts'
import type { Db, DeliveryStatus, NewRow, Row } from '../db/schema.ts'
import type { Page, PageKey } from '../http/page.ts'

/** A part with the attachment it shows: undefined for text, and for media that is deleted. */
export type PartRow = Row<'message_parts'> & {
  attachment:
    | Pick<AttachmentRow, 'id' | 'partner_id' | 'filename' | 'content_type' | 'size_bytes' | 'vanishes_at'>
    | undefined
}
export type MessageRow = Row<'messages'> & { parts: PartRow[] }

const insertion = prepared((db, row: NewRow<'messages'>) => db.insertInto('messages').values(row))
const insertionOfParts = prepared((db, { parts }: { parts: NewRow<'message_parts'>[] }) =>
  db.insertInto('message_parts').values(parts),
)

export async function insertMessage(
  db: Db,
  message: NewRow<'messages'>,
  parts: NewRow<'message_parts'>[],
): Promise<void> {
  await insertion.write(db, message)
  await insertionOfParts.write(db, { parts })
}

export async function findMessage(db: Db, partnerId: string, id: string): Promise<MessageRow | undefined> {
  const row = await shown(db).selectAll().where('id', '=', id).where('partner_id', '=', partnerId).executeTakeFirst()
  return row && (await withParts(db, [row]))[0]
}

/** Newest first; one more than the page has. */
export async function listMessages(db: Db, chatId: string, page: Page): Promise<MessageRow[]> {
  let query = shown(db).selectAll().where('chat_id', '=', chatId)
  const { after } = page
  if (after) query = query.where((eb) => eb(eb.refTuple('created_at', 'id'), '<', eb.tuple(after.at, after.id)))
  const rows = await query
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute()
  return await withParts(db, rows)
}

export const messagePageKey = (message: Row<'messages'>): PageKey => ({ at: message.created_at, id: message.id })

/**
 * True when there was such a message. One that the carrier has not taken yet is only hidden, since it was accepted and is to
 * be sent; `dropDeleted` removes it then.
 */
export async function removeMessage(tx: Db, partnerId: string, id: string, now: number): Promise<boolean> {
  const own = await tx
    .selectFrom('messages')
    .select(['delivery_status', 'carrier_ref'])
    .where('id', '=', id)
    .where('partner_id', '=', partnerId)
    .where('deleted_at', 'is', null)
    .forUpdate()
    .executeTakeFirst()
  if (!own) return false
  await tx.updateTable('messages').set({ deleted_at: now }).where('id', '=', id).execute()
  const isWaiting = own.carrier_ref === null && ['pending', 'queued'].includes(own.delivery_status)
  if (!isWaiting) await dropDeleted(tx, id)
  return true
}

/** Removes a message that was deleted; any other stays. */
export async function dropDeleted(db: Db, id: string): Promise<void> {
  const gone = db.selectFrom('messages').select('id').where('id', '=', id).where('deleted_at', 'is not', null)
  await db.deleteFrom('message_parts').where('message_id', 'in', gone).execute()
  await db.deleteFrom('messages').where('id', '=', id).where('deleted_at', 'is not', null).execute()
}

export async function hasMessage(db: Db, o: { chatId: string; id: string }): Promise<boolean> {
  const query = shown(db).select('id').where('id', '=', o.id).where('chat_id', '=', o.chatId)
  return (await query.executeTakeFirst()) !== undefined
}

export async function messageExists(db: Db, id: string): Promise<boolean> {
  return (await shown(db).select('id').where('id', '=', id).executeTakeFirst()) !== undefined
}

/** Messages as callers see them. */
const shown = (db: Db) => db.selectFrom('messages').where('deleted_at', 'is', null)

const outbound = prepared((db, { id }: { id: string }) =>
  db.selectFrom('messages').selectAll().where('id', '=', id).where('direction', '=', 'outbound'),
)
const outboundLocked = prepared((tx, { id }: { id: string }) =>
  tx.selectFrom('messages').selectAll().where('id', '=', id).where('direction', '=', 'outbound').forUpdate(),
)

/** For the carrier's side, which knows no partner. */
export async function findOutbound(db: Db, id: string): Promise<MessageRow | undefined> {
  const row = await outbound.first(db, { id })
  return row && (await withParts(db, [row]))[0]
}

/** True when there is such a message, be it deleted. */
export async function outboundExists(db: Db, id: string): Promise<boolean> {
  return (await outbound.first(db, { id })) !== undefined
}

/** Reports of one message are taken down one after the other, so that their events have its order. */
export async function lockOutbound(tx: Db, id: string): Promise<MessageRow | undefined> {
  const row = await outboundLocked.first(tx, { id })
  return row && (await withParts(tx, [row]))[0]
}

type Move = Partial<Row<'messages'>> & { delivery_status: DeliveryStatus }

const moving = prepared((db, { id, from, change }: { id: string; from: readonly DeliveryStatus[]; change: Move }) =>
  db
    .updateTable('messages')
    .set(change)
    .where('id', '=', id)
    .where('delivery_status', 'in', [...from]),
)

/** Moves a message on, only from one of the states named: a late report never moves it back. True when it moved. */
export async function moveMessage(db: Db, id: string, from: readonly DeliveryStatus[], change: Move): Promise<boolean> {
  return (await moving.write(db, { id, from, change })) > 0
}

type Referred = { direction: 'inbound' | 'outbound'; carrierRef: string }

const byReference = prepared((db, { direction, carrierRef }: Referred) =>
  db.selectFrom('messages').selectAll().where('carrier_ref', '=', carrierRef).where('direction', '=', direction),
)

/** A reference means one message in each direction. */
export function findByCarrierRef(
  db: Db,
  direction: 'inbound' | 'outbound',
  carrierRef: string,
): Promise<Row<'messages'> | undefined> {
  return byReference.first(db, { direction, carrierRef })
}

const taking = prepared((db, { id, carrierRef }: { id: string; carrierRef: string }) =>
  db.updateTable('messages').set({ carrier_ref: carrierRef }).where('id', '=', id).returning('deleted_at'),
)

/** The carrier has the message. True when it was deleted meanwhile, and is to be removed now. */
export async function setCarrierRef(db: Db, id: string, carrierRef: string): Promise<boolean> {
  const row = await taking.first(db, { id, carrierRef })
  return row !== undefined && row.deleted_at !== null
}

export function findIdempotencyKey(
  db: Db,
  partnerId: string,
  key: string,
): Promise<Row<'idempotency_keys'> | undefined> {
  return db
    .selectFrom('idempotency_keys')
    .selectAll()
    .where('partner_id', '=', partnerId)
    .where('key', '=', key)
    .executeTakeFirst()
}

export async function insertIdempotencyKey(db: Db, row: NewRow<'idempotency_keys'>): Promise<void> {
  await db.insertInto('idempotency_keys').values(row).execute()
}

const partsOf = prepared((db, { ids }: { ids: readonly string[] }) =>
  db
    .selectFrom('message_parts as p')
    .leftJoin('attachments as a', 'a.id', 'p.attachment_id')
    .selectAll('p')
    .select(['a.id as a_id', 'a.partner_id', 'a.filename', 'a.content_type', 'a.size_bytes', 'a.vanishes_at'])
    .where('p.message_id', 'in', ids)
    .orderBy('p.message_id')
    .orderBy('p.position'),
)

/** Two queries for any number of messages. */
export async function withParts(db: Db, messages: Row<'messages'>[]): Promise<MessageRow[]> {
  if (messages.length === 0) return []
  const ids = messages.map((message) => message.id)
  const rows = await partsOf.all(db, { ids })
  const parts = rows.map(({ a_id, partner_id, filename, content_type, size_bytes, vanishes_at, ...part }): PartRow => {
    const known =
      a_id !== null && partner_id !== null && filename !== null && content_type !== null && size_bytes !== null
    return {
      ...part,
      attachment: known ? { id: a_id, partner_id, filename, content_type, size_bytes, vanishes_at } : undefined,
    }
  })
  const byMessage = Map.groupBy(parts, (part) => part.message_id)
  return messages.map((message) => ({ ...message, parts: byMessage.get(message.id) ?? [] }))
}
