/** Looks into the database of a server that a test started, whichever it has. For what no call of the API shows. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import pg from 'pg'
import type { Server } from './satchel.ts'

export type Value = string | number | null

/** What the servers of this run keep their rows in, unless a test says otherwise. */
export const DATABASE = process.env.SATCHEL_TEST_DATABASE_URL === undefined ? 'SQLite' : 'PostgreSQL'

/** Rows of one statement, whose parameters are $1, $2...; a change shows rows when it ends in "returning". */
export async function ask<R extends Record<string, Value>>(
  { dataDir, env }: Pick<Server, 'dataDir' | 'env'>,
  sql: string,
  values: Value[] = [],
): Promise<R[]> {
  const url = env.SATCHEL_DATABASE_URL ?? `sqlite:${join(dataDir, 'satchel.sqlite')}`
  if (url.startsWith('sqlite:')) {
    using db = new DatabaseSync(url.slice('sqlite:'.length))
    db.exec('pragma busy_timeout = 5000')
    return db.prepare(sql.replaceAll('$', '?')).all(...values) as R[]
  }
  const types = { getTypeParser: (oid: number) => (oid === 20 ? Number : pg.types.getTypeParser(oid)) }
  const client = new pg.Client({ connectionString: url, types: types as never })
  await client.connect()
  try {
    return (await client.query<R>(sql, values)).rows
  } finally {
    await client.end()
  }
}

/** Where the secrets are kept depends on the database: every node of a PostgreSQL has to have the same. */
export async function secretsOf(server: Pick<Server, 'dataDir' | 'env'>): Promise<Record<string, string>> {
  if (DATABASE === 'PostgreSQL') {
    const rows = await ask<{ name: string; value: string }>(server, 'select name, value from secrets order by name')
    return Object.fromEntries(rows.map(({ name, value }) => [name, value]))
  }
  const names = ['sandbox-api-key', 'upload-signing-key'].filter((name) => existsSync(join(server.dataDir, name)))
  const values = names.map(async (name) => [name, (await readFile(join(server.dataDir, name), 'utf8')).trim()])
  return Object.fromEntries(await Promise.all(values))
}

/** How many rows each table has. */
export async function countRows(server: Pick<Server, 'dataDir' | 'env'>): Promise<Record<string, number>> {
  const names = server.env.SATCHEL_DATABASE_URL?.startsWith('postgres')
    ? `select tablename as name from pg_tables where schemaname = 'public' order by tablename`
    : `select name from sqlite_master where type = 'table' order by name`
  const counts: Record<string, number> = {}
  for (const { name } of await ask<{ name: string }>(server, names)) {
    const [row] = await ask<{ n: number }>(server, `select count(*) as n from "${name}"`)
    counts[name] = row?.n ?? 0
  }
  return counts
}
