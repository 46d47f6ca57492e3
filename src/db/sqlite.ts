/**
 * SQLite through node:sqlite, under Kysely: one connection, write-ahead log, every commit synced (synchronous=FULL).
 * node:sqlite is synchronous, so waiting for another process's lock is done here, between tries, and never blocks the
 * event loop. Prepared statements are kept: Kysely prepares each query anew, which costs more than running it.
 */
import { chmodSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  Kysely,
  type QueryResult,
  type SelectModifierNode,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import { Failure } from '../failure.ts'
import { migrate } from './migrate.ts'
import type { Db, Opened, Schema } from './schema.ts'

const BUSY_WAIT_MS = 5_000
const BUSY_STEP_MS = 25
const STATEMENTS_KEPT = 500

/** SQLite result codes (https://sqlite.org/rescode.html). */
const SQLITE_BUSY = 5
const SQLITE_LOCKED = 6
const SQLITE_IOERR = 10
const SQLITE_FULL = 13

/** Opens and migrates the file, which it makes with its folder (mode 0600) when it is missing. */
export async function openSqlite(path: string): Promise<Opened> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const database = new DatabaseSync(path)
  chmodSync(path, 0o600)
  const connection = new SqliteConnection(database)
  const db: Db = new Kysely<Schema>({ dialect: sqliteDialect(connection) })
  for (const pragma of ['journal_mode = wal', 'synchronous = full', 'foreign_keys = on', 'temp_store = memory']) {
    await connection.executeQuery(CompiledQuery.raw(`pragma ${pragma}`))
  }
  const migrated = await migrate(db)
  return { db, skipLocked: false, migrated, [Symbol.asyncDispose]: () => db.destroy() }
}

/** The lock of the process that has a data folder, and of the one that uses a database outside of its data folder. */
export const lockOfFolder = (folder: string): string => join(folder, 'satchel.lock')
export const lockOfDatabase = (path: string): string => `${path}.lock`

/**
 * Takes a lock file for this process alone, or returns undefined when another process has it. The system frees it when the
 * process ends, however it ends.
 */
export function lockFile(path: string): Disposable | undefined {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const lock = new DatabaseSync(path)
  try {
    lock.exec('begin exclusive')
  } catch (error) {
    lock.close()
    if (resultCode(error) === SQLITE_BUSY) return undefined
    throw error
  }
  return { [Symbol.dispose]: () => lock.close() }
}

function sqliteDialect(connection: SqliteConnection): Dialect {
  return {
    createAdapter: () => new TransactionalDdl(),
    createDriver: () => sqliteDriver(connection),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new WithoutRowLocks(),
  }
}

/** SQLite can roll back DDL; saying so makes Kysely run a migration inside one transaction. */
class TransactionalDdl extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true
  }
}

/** A transaction here has the only write lock from its beginning, so "for update" and its like say nothing new. */
class WithoutRowLocks extends SqliteQueryCompiler {
  protected override visitSelectModifier(node: SelectModifierNode): void {
    if (!LOCKS.has(node.modifier)) super.visitSelectModifier(node)
  }
}

const LOCKS = new Set<string | undefined>([
  'ForUpdate',
  'ForNoKeyUpdate',
  'ForShare',
  'ForKeyShare',
  'SkipLocked',
  'NoWait',
])

function sqliteDriver(connection: SqliteConnection): Driver {
  return {
    init: async () => {},
    acquireConnection: async () => connection,
    releaseConnection: async () => {},
    // "immediate": take the write lock first, so that a transaction which reads before it writes cannot fail half way.
    beginTransaction: async () => connection.run('begin immediate'),
    commitTransaction: async () => connection.run('commit'),
    rollbackTransaction: async () => connection.rollback(),
    savepoint: async (_, name) => connection.run(`savepoint ${name}`),
    rollbackToSavepoint: async (_, name) => connection.run(`rollback to ${name}`),
    releaseSavepoint: async (_, name) => connection.run(`release ${name}`),
    destroy: async () => connection.close(),
  }
}

class SqliteConnection implements DatabaseConnection {
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  /** Since when every write has found another process's lock; undefined once one has succeeded. */
  #lockedOutSince: number | undefined

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const parameters = query.parameters as (string | number | bigint | null)[]
    // PostgreSQL cannot keep it, and SQLite's own functions end a text there.
    if (parameters.some((value) => typeof value === 'string' && value.includes('\0'))) {
      throw new Failure('bad_parameter', 'A text holds a NUL character')
    }
    const reads = query.query.kind === 'SelectQueryNode'
    const returnsRows = reads || query.query.kind === 'RawNode' || 'returning' in query.query
    return this.#retryWhileBusy({ reads }, () => {
      const statement = this.#prepare(query.sql)
      if (returnsRows) return { rows: statement.all(...parameters) as R[] }
      const { changes } = statement.run(...parameters)
      return { rows: [], numAffectedRows: BigInt(changes) }
    })
  }

  // biome-ignore lint/correctness/useYield: nothing here streams rows; the interface asks for the method.
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('streaming queries are not supported on SQLite')
  }

  async run(sql: string): Promise<void> {
    await this.#retryWhileBusy({ reads: false }, () => this.#prepare(sql).run())
  }

  /** SQLite may have rolled back by itself (disk full): then there is nothing left to do. */
  async rollback(): Promise<void> {
    try {
      this.#prepare('rollback').run()
    } catch (error) {
      if (!(error instanceof Error && error.message.includes('no transaction is active'))) throw error
    }
  }

  close(): void {
    this.#statements.clear()
    this.#database.close()
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql)
    if (known) return known
    if (this.#statements.size >= STATEMENTS_KEPT) this.#statements.clear()
    const statement = this.#database.prepare(sql)
    this.#statements.set(sql, statement)
    return statement
  }

  /** Everyone waits in line for this connection, so the patience is the line's: five seconds each would add up. */
  async #retryWhileBusy<T>({ reads }: { reads: boolean }, work: () => T): Promise<T> {
    for (;;) {
      try {
        const result = work()
        if (!reads) this.#lockedOutSince = undefined
        return result
      } catch (error) {
        const code = resultCode(error)
        if (code !== SQLITE_BUSY && code !== SQLITE_LOCKED) throw translate(error, code)
        this.#lockedOutSince ??= performance.now()
        if (performance.now() - this.#lockedOutSince >= BUSY_WAIT_MS) throw translate(error, code)
        await sleep(BUSY_STEP_MS)
      }
    }
  }
}

function resultCode(error: unknown): number | undefined {
  const code = error instanceof Error && 'errcode' in error ? error.errcode : undefined
  return typeof code === 'number' ? code & 0xff : undefined
}

function translate(error: unknown, code: number | undefined): unknown {
  if (code === SQLITE_BUSY || code === SQLITE_LOCKED) {
    return new Failure('database_unavailable', 'The database is busy; try again', { cause: error })
  }
  if (code === SQLITE_FULL) return new Failure('database_unavailable', 'The disk is full', { cause: error })
  if (code === SQLITE_IOERR) return new Failure('database_failed', undefined, { cause: error })
  return error
}
