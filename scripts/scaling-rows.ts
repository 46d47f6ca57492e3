/**
 * The generated rows of scripts/scaling.ts, as SQL. Every row follows from its number, so ids can be drawn without a look-up.
 * Of each 10,000 messages 2,000 lie in one chat, 2,000 in four, 2,000 in twenty, 2,000 in a hundred, 1,600 in four hundred and
 * 400 in as many; a chat's messages lie scattered over the whole year, which is the hardest case for a cache. Three fifths of
 * the chats are one partner's, the rest a hundred others'. Every second message shows an attachment.
 */

/** Built after the rows, as PostgreSQL's manual advises. The names are those of the migrations. */
export const INDEXES_LEFT_OUT = [
  'attachments_by_storage_key',
  'messages_by_chat',
  'messages_by_sender',
  'messages_by_carrier_ref',
  'chats_by_activity',
  'chat_handles_by_handle',
  'chat_handles_by_address',
]

/** At most as many messages as attachments. */
export type Sizes = { size: number; messages: number }

const YEAR_MS = 365 * 86_400_000

/** Functions in a schema of their own, and the partners. `now`: the year ends an hour before it. */
export function createScaffold(o: Sizes & { partner: string; line: string; now: number }): string {
  const start = o.now - 3_600_000 - YEAR_MS
  const define = (signature: string, type: string, body: string) =>
    `create or replace function scaling.${signature} returns ${type} language sql immutable parallel safe as $$ ${body} $$;`
  const other = `'01900000-0000-7000-8000-' || lpad((1 + c % 100)::text, 12, '0')`
  return [
    'create schema if not exists scaling;',
    define('size()', 'bigint', `select ${o.size}::bigint`),
    define('messages()', 'bigint', `select ${o.messages}::bigint`),
    define('time_of(i bigint)', 'bigint', `select ${start} + i * ${YEAR_MS} / ${o.size}`),
    define(
      'uuid(ms bigint, h text)',
      'text',
      `select '0' || substr(to_hex(ms), 1, 7) || '-' || substr(to_hex(ms), 8, 4) || '-7' || substr(h, 1, 3) || '-8'
       || substr(h, 4, 3) || '-' || substr(h, 7, 12)`,
    ),
    define('attachment_id(i bigint)', 'text', `select scaling.uuid(scaling.time_of(i), md5('a' || i::text))`),
    define('message_id(i bigint)', 'text', `select scaling.uuid(scaling.time_of(i), md5('m' || i::text))`),
    define('chat_id(c bigint)', 'text', `select scaling.uuid(${start} + c, md5('c' || c::text))`),
    define(
      'handle_id(c bigint, p bigint)',
      'text',
      `select scaling.uuid(${start} + c, md5(p::text || 'h' || c::text))`,
    ),
    define('in_block(r bigint)', 'bigint', IN_BLOCK),
    define(
      'chat_of(i bigint)',
      'bigint',
      `select i % ${o.messages / 10_000} * 925 + scaling.in_block(i / ${o.messages / 10_000} * 7919 % 10000)`,
    ),
    define('is_main(c bigint)', 'boolean', 'select c % 5 < 3'),
    define('is_complete(i bigint)', 'boolean', 'select i % 20 > 1'),
    define('partner_of(c bigint)', 'text', `select case when c % 5 < 3 then '${o.partner}' else ${other} end`),
    define(
      'line_of(c bigint)',
      'text',
      `select case when c % 5 < 3 then '${o.line}' else '+1303555' || lpad((1 + c % 100)::text, 4, '0') end`,
    ),
    `insert into partners (id, name, created_at) select ${other}, 'Partner ' || c, ${start} from generate_series(0, 99) as c;`,
    `insert into phone_numbers (id, partner_id, phone_number, created_at)
     select ${other}, ${other}, '+1303555' || lpad((1 + c % 100)::text, 4, '0'), ${start} from generate_series(0, 99) as c;`,
  ].join('\n')
}

const IN_BLOCK = `select case when r < 2000 then 0 when r < 4000 then 1 + (r - 2000) / 500
  when r < 6000 then 5 + (r - 4000) / 100 when r < 8000 then 25 + (r - 6000) / 20
  when r < 9600 then 125 + (r - 8000) / 4 else 525 + (r - 9600) end`

/** Of a chat in a thousand the other one has an e-mail address; these chats are all the main partner's. */
export const addressHandles = `update chat_handles set handle = 'Guest' || c || '@Example.com'
  from generate_series(0, scaling.messages() / 10000 * 925 - 1, 1000) as c
  where id = scaling.handle_id(c, 1) and handle not like '%@%'`

/** Run for all numbers below `count`, a part of them at a time, so that progress shows and no statement is huge. */
export type Step = { about: string; count: number; text(from: number, end: number): string }

const series = (from: number, end: number) => `generate_series(${from}::bigint, ${end - 1}) as i`

/** Lists that may run side by side; within a list in order, since ids that ascend fill an index without splits in its middle. */
export function fillSteps({ size, messages }: Sizes): Step[][] {
  const chats = (messages / 10_000) * 925
  const soon = Date.now() + 86_400_000
  return [
    [
      {
        about: 'attachments',
        count: size,
        text: (from, end) => `
          insert into attachments (id, partner_id, filename, declared_type, content_type, size_bytes, status, source,
            storage_key, sha256, refusal, refusal_message, created_at, upload_expires_at, completed_at)
          select scaling.uuid(t, a), scaling.partner_of(c), 'IMG_' || i || '.jpg', 'image/jpeg', 'image/jpeg',
            20000 + i * 7919 % 4000000, case when i % 20 > 1 then 'complete' when i % 20 = 1 then 'failed' else 'pending' end,
            case when i % 4 = 0 then 'upload' when i % 4 = 1 then 'url' else 'inbound' end,
            case when i % 20 > 1 then 'media/' || substr(k, 17, 2) || '/' || scaling.uuid(t + 900, k) end,
            case when i % 20 > 1 then k || a end, case when i % 20 = 1 then 'content_mismatch' end,
            case when i % 20 = 1 then 'The bytes are not what was declared' end, t, t + 900000,
            case when i % 20 > 1 then t + 2000 end
          from (select i, scaling.time_of(i) as t, md5('a' || i::text) as a, md5('k' || i::text) as k,
            scaling.chat_of(i) as c from ${series(from, end)} offset 0) as x`,
      },
      {
        about: 'jobs that wait for their time (a tenth)',
        count: size / 10,
        text: (from, end) => `
          insert into jobs (id, kind, payload, run_at, attempt, leased_until, created_at)
          select scaling.uuid(scaling.time_of(i), md5('j' || i::text)), 'upload.settle',
            '{"attachment_id":"' || scaling.attachment_id(i) || '","last":true}', ${soon} + i, 0, 0, ${soon}
          from ${series(from, end)}`,
      },
    ],
    [
      {
        about: 'chats',
        count: chats,
        text: (from, end) => `
          insert into chats (id, partner_id, phone_number, is_group, service, recipients_key, health_status,
            health_updated_at, created_at, updated_at)
          select scaling.chat_id(i), scaling.partner_of(i), scaling.line_of(i), 0, 'iMessage', '+1' || (2100000000 + i),
            'HEALTHY', scaling.time_of(0), scaling.time_of(0),
            scaling.time_of(('x' || substr(md5('u' || i::text), 1, 8))::bit(32)::bigint % scaling.messages())
          from ${series(from, end)}`,
      },
      {
        about: 'chat_handles (two a chat)',
        count: chats,
        text: (from, end) => `
          insert into chat_handles (id, chat_id, position, handle, service, status, is_me, joined_at)
          select scaling.handle_id(i, p), scaling.chat_id(i), p,
            case when p = 0 then scaling.line_of(i) else '+1' || (2100000000 + i) end, 'iMessage', 'active',
            1 - p, scaling.time_of(0)
          from ${series(from, end)}, generate_series(0, 1) as p`,
      },
      {
        about: 'messages',
        count: messages,
        text: (from, end) => `
          insert into messages (id, chat_id, partner_id, direction, sender_handle_id, delivery_status, service, trace_id,
            carrier_ref, created_at, updated_at, sent_at, delivered_at, read_at)
          select scaling.uuid(t, m), scaling.chat_id(c), scaling.partner_of(c),
            case when i % 2 = 0 then 'outbound' else 'inbound' end, scaling.handle_id(c, i % 2),
            case when i % 2 = 1 then 'received' when i % 10 = 0 then 'read' else 'delivered' end, 'iMessage', m,
            scaling.uuid(t + 50, md5('r' || i::text)), t, t + 900, t + 100, t + 900, case when i % 10 = 0 then t + 5000 end
          from (select i, scaling.time_of(i) as t, md5('m' || i::text) as m, scaling.chat_of(i) as c
            from ${series(from, end)} offset 0) as x`,
      },
    ],
    [
      {
        about: 'message_parts (a text each, and a file for every second)',
        count: messages,
        text: (from, end) => `
          insert into message_parts (message_id, position, type, value, attachment_id)
          select id, p, case when p = 0 then 'text' else 'media' end,
            case when p = 0 then 'Message ' || i || ': see you at the station at a quarter past' end,
            case when p = 1 then scaling.attachment_id(i) end
          from (select i, scaling.message_id(i) as id from ${series(from, end)} offset 0) as x,
            generate_series(0, (1 - i % 2)::int) as p`,
      },
      {
        about: 'events and delivered webhooks (a fiftieth: a week of the year)',
        count: messages / 50,
        text: (from, end) => `
          with happened as (
            insert into events (id, partner_id, type, chat_id, message_id, trace_id, data, created_at)
            select scaling.uuid(t, md5('e' || i::text)), scaling.partner_of(scaling.chat_of(i)), 'message.delivered',
              scaling.chat_id(scaling.chat_of(i)), scaling.message_id(i), md5('t' || i::text), repeat(md5('d' || i::text), 30), t
            from (select i, scaling.time_of(i) as t
              from ${series(messages - messages / 50 + from, messages - messages / 50 + end)} offset 0) as x
            returning id, partner_id, chat_id, created_at)
          insert into webhook_deliveries (id, subscription_id, event_id, partner_id, chat_id, status, attempts,
            next_attempt_at, leased_until, created_at, finished_at)
          select id, partner_id, id, partner_id, chat_id, 'delivered', 1, created_at, 0, created_at, created_at + 50
          from happened`,
      },
    ],
  ]
}
