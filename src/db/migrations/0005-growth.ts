/** What large tables need: chats found by an e-mail address, and on PostgreSQL a vacuum that comes before it is a burden. */
import { type Kysely, PostgresAdapter, sql } from 'kysely'

/** Those that grow without end, or whose rows change soon after they are written. */
const LARGE = ['attachments', 'chats', 'messages', 'message_parts', 'jobs', 'events', 'webhook_deliveries']

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createIndex('chat_handles_by_address')
    .on('chat_handles')
    .expression(sql`lower(handle)`)
    .column('chat_id')
    .execute()
  if (!(db.getExecutor().adapter instanceof PostgresAdapter)) return

  // Without statistics of the expression, PostgreSQL expects a two hundredth of all handles to match, and goes another way.
  await sql`analyze chat_handles`.execute(db)
  // The default waits for dead rows of a fifth of the table: more at once than the memory of one pass holds, from tens of
  // millions of rows on, and as many entries that every claim of jobs or deliveries steps over.
  for (const table of LARGE) {
    await sql`alter table ${sql.table(table)} set (autovacuum_vacuum_scale_factor = 0.01)`.execute(db)
  }
}
