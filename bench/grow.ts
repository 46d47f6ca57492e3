/**
 * A database of a server that has been used for long: a million attachments and a million messages in 10,000 chats, written
 * past the server while it is stopped. Rows only: the bytes of a million files would fill the disk and are never asked for.
 */
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

export const GROWN_ROWS = 1_000_000
const GROWN_CHATS = 10_000

/** `n` as the id of the n-th row: of UUIDv7's form, from the past, in order. */
const id = (kind: number, n = 'n') =>
  `printf('0190%04x-%04x-7000-8000-%012x', (${n} >> 16) & 65535, ${n} & 65535, ${n} + ${kind} * 1000000000)`

export function grow(folder: string, rows: number): void {
  const db = new DatabaseSync(join(folder, 'satchel.sqlite'))
  db.exec('pragma synchronous = off; pragma foreign_keys = off; begin')
  const partner = db.prepare('select id from partners limit 1').get()?.id as string
  const series = (last: number) =>
    `with recursive s(n) as (select 0 union all select n + 1 from s where n < ${last - 1})`
  const at = '1700000000000 + n'
  const insert = (table: string, values: Record<string, string>, last: number) =>
    db.exec(
      `insert into ${table} (${Object.keys(values).join(', ')}) ${series(last)} select ${Object.values(values).join(', ')} from s`,
    )
  insert(
    'attachments',
    {
      id: id(1),
      partner_id: `'${partner}'`,
      filename: `'photo.jpg'`,
      declared_type: `'image/jpeg'`,
      content_type: `'image/jpeg'`,
      size_bytes: '50000',
      status: `'complete'`,
      source: `'upload'`,
      storage_key: `printf('media/%02x/%012x', n & 255, n)`,
      sha256: `printf('%064x', n)`,
      created_at: at,
      upload_expires_at: at,
      completed_at: at,
    },
    rows,
  )
  insert(
    'chats',
    {
      id: id(2),
      partner_id: `'${partner}'`,
      phone_number: `'+12025550100'`,
      is_group: '0',
      service: `'iMessage'`,
      recipients_key: `printf('+1415%07d', n)`,
      health_status: `'HEALTHY'`,
      health_updated_at: at,
      created_at: at,
      updated_at: at,
    },
    GROWN_CHATS,
  )
  for (const isMe of [1, 0]) {
    insert(
      'chat_handles',
      {
        id: id(3 + isMe),
        chat_id: id(2),
        position: String(1 - isMe),
        handle: isMe === 1 ? `'+12025550100'` : `printf('+1415%07d', n)`,
        service: `'iMessage'`,
        status: `'active'`,
        is_me: String(isMe),
        joined_at: at,
      },
      GROWN_CHATS,
    )
  }
  insert(
    'messages',
    {
      id: id(5),
      chat_id: id(2, `(n % ${GROWN_CHATS})`),
      partner_id: `'${partner}'`,
      direction: `'outbound'`,
      sender_handle_id: id(4, `(n % ${GROWN_CHATS})`),
      delivery_status: `'delivered'`,
      service: `'iMessage'`,
      trace_id: `printf('%032x', n)`,
      carrier_ref: id(5),
      created_at: at,
      updated_at: at,
      sent_at: at,
      delivered_at: at,
    },
    rows,
  )
  insert('message_parts', { message_id: id(5), position: '0', type: `'media'`, attachment_id: id(1) }, rows)
  db.exec('commit; pragma wal_checkpoint(truncate)')
  db.close()
}

/** Deliveries that are due, each with its event, spread over many chats. The server must be stopped. */
export function oweDeliveries(folder: string, count: number): void {
  const db = new DatabaseSync(join(folder, 'satchel.sqlite'))
  const subscription = db.prepare('select id, partner_id from webhook_subscriptions limit 1').get() as
    | { id: string; partner_id: string }
    | undefined
  if (!subscription) throw new Error('there is no subscription')
  const event = db.prepare(
    `insert into events (id, partner_id, type, chat_id, message_id, trace_id, data, created_at)
     values (?, ?, 'message.delivered', ?, ?, ?, ?, ?)`,
  )
  const delivery = db.prepare(
    `insert into webhook_deliveries (id, subscription_id, event_id, partner_id, chat_id, status, attempts, next_attempt_at,
     leased_until, created_at) values (?, ?, ?, ?, ?, 'pending', 0, ?, 0, ?)`,
  )
  db.exec('begin')
  const now = Date.now()
  const { partner_id } = subscription
  const data = JSON.stringify({ id: 'x', parts: [{ type: 'text', value: 'z'.repeat(800) }] })
  for (let n = 0; n < count; n++) {
    const tail = `${now.toString(16).padStart(12, '0').slice(-8)}${n.toString(16).padStart(4, '0')}`
    const [eventId, deliveryId] = [`0190ffff-ffff-7000-8000-${tail}`, `0190ffff-ffff-7001-8000-${tail}`]
    const chat = `chat-${n % 500}`
    event.run(eventId, partner_id, chat, `message-${n}`, n.toString(16).padStart(32, '0'), data, now)
    delivery.run(deliveryId, subscription.id, eventId, partner_id, chat, now, now)
  }
  db.exec('commit')
  db.close()
}
