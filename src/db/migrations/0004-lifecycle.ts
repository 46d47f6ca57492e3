/** Attachments that vanish, why an attachment was deleted, what `sweep` reads by, and how far `migrate-data` has come. */
import type { Kysely } from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const table of ['partners', 'phone_numbers']) {
    await db.schema
      .alterTable(table)
      .addColumn('ephemeral', 'integer', (c) => c.notNull().defaultTo(0))
      .execute()
  }
  await db.schema.alterTable('attachments').addColumn('vanishes_at', 'bigint').execute()
  await db.schema
    .alterTable('attachment_deletions')
    .addColumn('reason', 'text', (c) => c.notNull().defaultTo('request'))
    .execute()
  await db.schema
    .createIndex('attachment_deletions_by_time')
    .on('attachment_deletions')
    .columns(['deleted_at', 'attachment_id'])
    .execute()
  await db.schema.createIndex('attachments_by_storage_key').on('attachments').column('storage_key').execute()

  await db.schema
    .createTable('migrated_data')
    .addColumn('step', 'text', (c) => c.primaryKey())
    .addColumn('source', 'text', (c) => c.notNull())
    .addColumn('last_key', 'text')
    .addColumn('copied', 'bigint', (c) => c.notNull())
    .addColumn('finished_at', 'bigint')
    .execute()
}
