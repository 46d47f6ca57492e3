/** The first tables: partners and their keys and lines, attachments, chats and messages, idempotency keys, jobs. */
import { type Kysely, sql } from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('partners')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .execute()

  await db.schema
    .createTable('api_keys')
    .addColumn('key_hash', 'text', (c) => c.primaryKey())
    .addColumn('partner_id', 'text', (c) => c.notNull().references('partners.id'))
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .execute()

  await db.schema
    .createTable('phone_numbers')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('partner_id', 'text', (c) => c.notNull().references('partners.id'))
    .addColumn('phone_number', 'text', (c) => c.notNull().unique())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .execute()
  await db.schema.createIndex('phone_numbers_by_partner').on('phone_numbers').column('partner_id').execute()

  await db.schema
    .createTable('attachments')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('partner_id', 'text', (c) => c.notNull().references('partners.id'))
    .addColumn('filename', 'text', (c) => c.notNull())
    .addColumn('declared_type', 'text', (c) => c.notNull())
    .addColumn('content_type', 'text', (c) => c.notNull())
    .addColumn('size_bytes', 'bigint', (c) => c.notNull())
    .addColumn('status', 'text', (c) => c.notNull())
    .addColumn('source', 'text', (c) => c.notNull())
    .addColumn('storage_key', 'text')
    .addColumn('sha256', 'text')
    .addColumn('refusal', 'text')
    .addColumn('refusal_message', 'text')
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('upload_expires_at', 'bigint', (c) => c.notNull())
    .addColumn('completed_at', 'bigint')
    .addCheckConstraint(
      'complete_has_bytes',
      sql`(status = 'complete') = (storage_key is not null and sha256 is not null)`,
    )
    .execute()

  await db.schema
    .createTable('attachment_deletions')
    .addColumn('attachment_id', 'text', (c) => c.primaryKey())
    .addColumn('partner_id', 'text', (c) => c.notNull())
    .addColumn('deleted_at', 'bigint', (c) => c.notNull())
    .execute()

  await db.schema
    .createTable('chats')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('partner_id', 'text', (c) => c.notNull().references('partners.id'))
    .addColumn('phone_number', 'text', (c) => c.notNull())
    .addColumn('is_group', 'integer', (c) => c.notNull())
    .addColumn('display_name', 'text')
    .addColumn('service', 'text', (c) => c.notNull())
    .addColumn('recipients_key', 'text')
    .addColumn('health_status', 'text', (c) => c.notNull())
    .addColumn('health_updated_at', 'bigint', (c) => c.notNull())
    .addColumn('left_at', 'bigint')
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('updated_at', 'bigint', (c) => c.notNull())
    .execute()
  await db.schema
    .createIndex('chats_by_recipients')
    .unique()
    .on('chats')
    .columns(['partner_id', 'phone_number', 'recipients_key'])
    .execute()
  await db.schema.createIndex('chats_by_activity').on('chats').columns(['partner_id', 'updated_at', 'id']).execute()

  await db.schema
    .createTable('chat_handles')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('chat_id', 'text', (c) => c.notNull().references('chats.id'))
    .addColumn('position', 'integer', (c) => c.notNull())
    .addColumn('handle', 'text', (c) => c.notNull())
    .addColumn('service', 'text', (c) => c.notNull())
    .addColumn('status', 'text', (c) => c.notNull())
    .addColumn('is_me', 'integer', (c) => c.notNull())
    .addColumn('joined_at', 'bigint', (c) => c.notNull())
    .addColumn('left_at', 'bigint')
    .execute()
  await db.schema.createIndex('chat_handles_by_chat').on('chat_handles').columns(['chat_id', 'position']).execute()
  await db.schema.createIndex('chat_handles_by_handle').on('chat_handles').columns(['handle', 'chat_id']).execute()

  await db.schema
    .createTable('messages')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('chat_id', 'text', (c) => c.notNull().references('chats.id'))
    .addColumn('partner_id', 'text', (c) => c.notNull())
    .addColumn('direction', 'text', (c) => c.notNull())
    .addColumn('sender_handle_id', 'text', (c) => c.notNull().references('chat_handles.id'))
    .addColumn('delivery_status', 'text', (c) => c.notNull())
    .addColumn('service', 'text', (c) => c.notNull())
    .addColumn('preferred_service', 'text')
    .addColumn('effect', 'text')
    .addColumn('reply_to_message_id', 'text')
    .addColumn('reply_to_part_index', 'integer')
    .addColumn('idempotency_key', 'text')
    .addColumn('trace_id', 'text', (c) => c.notNull())
    .addColumn('carrier_ref', 'text')
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('updated_at', 'bigint', (c) => c.notNull())
    .addColumn('sent_at', 'bigint')
    .addColumn('delivered_at', 'bigint')
    .addColumn('read_at', 'bigint')
    .addColumn('deleted_at', 'bigint')
    .execute()
  await db.schema.createIndex('messages_by_chat').on('messages').columns(['chat_id', 'created_at', 'id']).execute()
  // For the foreign key: without it, removing a handle looks through every message.
  await db.schema.createIndex('messages_by_sender').on('messages').column('sender_handle_id').execute()
  await db.schema.createIndex('messages_by_carrier_ref').on('messages').column('carrier_ref').execute()

  await db.schema
    .createTable('message_parts')
    .addColumn('message_id', 'text', (c) => c.notNull().references('messages.id'))
    .addColumn('position', 'integer', (c) => c.notNull())
    .addColumn('type', 'text', (c) => c.notNull())
    .addColumn('value', 'text')
    .addColumn('text_decorations', 'text')
    .addColumn('attachment_id', 'text')
    .addPrimaryKeyConstraint('message_parts_pk', ['message_id', 'position'])
    .execute()

  await db.schema
    .createTable('idempotency_keys')
    .addColumn('partner_id', 'text', (c) => c.notNull())
    .addColumn('key', 'text', (c) => c.notNull())
    .addColumn('message_id', 'text', (c) => c.notNull())
    .addColumn('status', 'integer', (c) => c.notNull())
    .addColumn('response', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addPrimaryKeyConstraint('idempotency_keys_pk', ['partner_id', 'key'])
    .execute()

  await db.schema
    .createTable('jobs')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('kind', 'text', (c) => c.notNull())
    .addColumn('payload', 'text', (c) => c.notNull())
    .addColumn('run_at', 'bigint', (c) => c.notNull())
    .addColumn('attempt', 'integer', (c) => c.notNull())
    .addColumn('leased_until', 'bigint', (c) => c.notNull())
    .addColumn('last_error', 'text')
    .addColumn('failed_at', 'bigint')
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .execute()
  await db.schema.createIndex('jobs_due').on('jobs').column('run_at').where(sql.ref('failed_at'), 'is', null).execute()
}
