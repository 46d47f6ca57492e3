/**
 * PostgreSQL 15 or newer through pg, under Kysely: a pool, time limits on everything, and every error of the server or of the
 * line to it said as a Failure. A connection that broke is dropped and another one opened when it is needed, so a restart of
 * the server costs the requests under way a 503 and nothing else.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Kysely, PostgresDialect, type PostgresPoolClient } from 'kysely'
import pg from 'pg'
import { Failure } from '../failure.ts'
import { migrate } from './migrate.ts'
import type { Opened, Schema } from './schema.ts'
import { GaveWay } from './transaction.ts'

/** For a connection of the pool to become free, or for a new one to be made. */
const CONNECT_MS = 5_000
const STATEMENT_MS = 20_000
/** For a server that does not even say that it gives up. */
const SILENCE_MS = STATEMENT_MS + 5_000
const IDLE_IN_TRANSACTION_MS = 30_000
/** How long a start waits for a server that is starting too. */
const PATIENCE_MS = 15_000
const RETRY_MS = 250
const OLDEST = 150_000

/** The database cannot be used as it is configured; the message is for the operator. */
export class DatabaseUnusable extends Error {
  override name = 'DatabaseUnusable'
}

/** Connects, waiting a while for a server that is not up yet, and migrates. Rejects with DatabaseUnusable. */
export async function openPostgres(url: string, o: { poolSize: number }): Promise<Opened> {
  await waitForServer(url)
  const migrated = await migrateAlone(url)
  const db = new Kysely<Schema>({
    dialect: dialect({
      ...connection(url),
      max: o.poolSize,
      statement_timeout: STATEMENT_MS,
      query_timeout: SILENCE_MS,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    }),
  })
  return { db, skipLocked: true, migrated, [Symbol.asyncDispose]: () => db.destroy() }
}

/** A connection of its own without a limit on statements: a migration may be long, and nine nodes may wait for the tenth. */
async function migrateAlone(url: string): Promise<string[]> {
  const db = new Kysely<Schema>({ dialect: dialect({ ...connection(url), max: 1 }) })
  try {
    return await migrate(db)
  } finally {
    await db.destroy()
  }
}

async function waitForServer(url: string): Promise<void> {
  for (const until = Date.now() + PATIENCE_MS; ; ) {
    const client = new pg.Client(connection(url))
    client.on('error', () => {})
    try {
      await client.connect()
      const { rows } = await client.query('show server_version_num')
      if (Number(rows[0]?.server_version_num) < OLDEST) throw new DatabaseUnusable('PostgreSQL 15 or newer is needed')
      return
    } catch (error) {
      if (error instanceof DatabaseUnusable) throw error
      if (!(translate(error) instanceof Failure) || Date.now() > until) {
        throw new DatabaseUnusable(describe(error), { cause: error })
      }
      await sleep(RETRY_MS)
    } finally {
      await client.end().catch(() => {})
    }
  }
}

function connection(url: string): pg.PoolConfig {
  return {
    connectionString: url,
    application_name: 'satchel',
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    types: { getTypeParser: typeParser },
  }
}

const INT8 = 20

/** Times and byte counts are bigint, and far from 2^53; pg would hand them out as text. */
const typeParser = ((oid: number, format?: 'text') => {
  return oid === INT8 ? Number : pg.types.getTypeParser(oid, format)
}) as typeof pg.types.getTypeParser

/** Kysely's own dialect on a pool whose errors are translated where they arise. */
function dialect(config: pg.PoolConfig): PostgresDialect {
  const pool = new pg.Pool(config)
  // An idle connection that breaks is removed by the pool; one in use rejects its query. Without listeners both would end us.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return new PostgresDialect({
    pool: {
      options: pool.options,
      end: () => pool.end(),
      async connect() {
        try {
          return translating(await pool.connect())
        } catch (error) {
          throw translate(error)
        }
      },
    },
  })
}

function translating(client: pg.PoolClient): PostgresPoolClient {
  let broken = false
  const query = async (sql: string, parameters: readonly unknown[]) => {
    if (broken) throw unavailable('the connection broke before')
    try {
      return await client.query(sql, [...parameters])
    } catch (error) {
      // What is not the server's word came from the line: whether the statement ran is unknown, and what follows on it too.
      if (!(error instanceof pg.DatabaseError)) broken = true
      throw translate(error)
    }
  }
  return { query: query as unknown as PostgresPoolClient['query'], release: () => client.release(broken) }
}

/** SQLSTATE classes and codes (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
const UNAVAILABLE = /^(08...|53...|57014|57P0[1-5]|25P03|25006)$/
const GAVE_WAY = /^(40001|40P01|55P03)$/
const NOT_TEXT = /^(22021|22P05)$/
const BROKEN = /^(58...|XX...)$/

function translate(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof Failure || error instanceof TypeError) return error
  if (!(error instanceof pg.DatabaseError)) return unavailable(error)
  const { code = '' } = error
  if (UNAVAILABLE.test(code)) return unavailable(error)
  if (GAVE_WAY.test(code)) return new GaveWay({ cause: error })
  if (NOT_TEXT.test(code)) return new Failure('bad_parameter', 'A text holds a NUL character', { cause: error })
  if (BROKEN.test(code)) return new Failure('database_failed', undefined, { cause: error })
  return error
}

function unavailable(cause: unknown): Failure {
  return new Failure('database_unavailable', 'The database cannot be reached; try again', { cause })
}

/** An address that resolves twice fails twice, in an AggregateError without a message. */
function describe(error: unknown): string {
  const [first] = error instanceof AggregateError ? error.errors : [error]
  return first instanceof Error ? first.message : String(first)
}
