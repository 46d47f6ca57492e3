/** What several nodes on one database need: secrets that all of them share, and who holds which lease. */
import type { Kysely } from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('secrets')
    .addColumn('name', 'text', (c) => c.primaryKey())
    .addColumn('value', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .execute()
  for (const table of ['jobs', 'webhook_deliveries']) {
    await db.schema.alterTable(table).addColumn('leased_by', 'text').execute()
  }
}
