/**
 * Brings a database to the newest schema. All of a run is one transaction, so a migration that fails half way leaves
 * nothing, and processes that start together wait for each other: SQLite's write lock, or an advisory lock of PostgreSQL.
 */
import type { Kysely } from 'kysely'
import { type Migration, Migrator } from 'kysely/migration'
import * as m0001 from './migrations/0001-attachments-and-messages.ts'
import * as m0002 from './migrations/0002-webhooks.ts'
import * as m0003 from './migrations/0003-nodes.ts'
import * as m0004 from './migrations/0004-lifecycle.ts'
import * as m0005 from './migrations/0005-growth.ts'

/** A literal record: a folder scan would find .ts in development and .js in a build. */
const MIGRATIONS: Record<string, Migration> = {
  '0001-attachments-and-messages': m0001,
  '0002-webhooks': m0002,
  '0003-nodes': m0003,
  '0004-lifecycle': m0004,
  '0005-growth': m0005,
}

/** Names of the migrations that ran now; empty when the schema was new enough. */
export async function migrate<T>(db: Kysely<T>): Promise<string[]> {
  const migrator = new Migrator({ db, provider: { getMigrations: async () => MIGRATIONS } })
  const { error, results } = await migrator.migrateToLatest()
  if (error) throw error
  return (results ?? []).map((result) => result.migrationName)
}
