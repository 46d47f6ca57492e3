/**
 * SQLite through node:sqlite, under Kysely: write-ahead log, every commit synced (synchronous=FULL). One connection changes
 * and has group commit (sqlite-writer.ts), one reads and sees only what is committed. node:sqlite is synchronous, so waiting
 * for another process's lock is done here, between tries, and never blocks the event loop.
 */
import { chmodSync, closeSync, fsyncSync, mkdirSync, openSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
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
import { migrate } from './migrate.ts'
import { readers } from './prepared.ts'
import type { Db, Opened, Schema } from './schema.ts'
import { isBusy, Statements, whenFree } from './sqlite-statements.ts'
import { type Turn, Writer } from './sqlite-writer.ts'

const PRAGMAS = ['journal_mode = wal', 'synchronous = full', 'foreign_keys = on', 'temp_store = memory']

/** Opens and migrates the file, which it makes with its folder (mode 0600) when it is missing. */
export async function openSqlite(path: string): Promise<Opened> {
  makeFolder(dirname(path))
  const writing = await openFile(path)
  chmodSync(path, 0o600)
  const reading = await openFile(path)
  const db: Db = new Kysely<Schema>({ dialect: sqliteDialect(new Writer(writing), reading) })
  const migrated = await migrate(db)
  readers.set(db.getExecutor().adapter, (query) => whenFree(() => reading.execute(query)))
  return { db, skipLocked: false, migrated, [Symbol.asyncDispose]: () => db.destroy() }
}

async function openFile(path: string): Promise<Statements> {
  const statements = new Statements(new DatabaseSync(path))
  for (const pragma of PRAGMAS) {
    await whenFree(() => statements.execute(CompiledQuery.raw(`pragma ${pragma}`)))
  }
  return statements
}

/** With names that are durable, up to the first that had to be made: SQLite syncs those of its files only. */
function makeFolder(path: string): void {
  const made = mkdirSync(path, { recursive: true, mode: 0o700 })
  for (let at = path; made !== undefined && at.length >= made.length; at = dirname(at)) {
    const parent = openSync(dirname(at), 'r')
    fsyncSync(parent)
    closeSync(parent)
  }
}

/** The lock of the process that has a data folder, and of the one that uses a database outside of its data folder. */
export const lockOfFolder = (folder: string): string => join(folder, 'satchel.lock')
export const lockOfDatabase = (path: string): string => `${path}.lock`

/**
 * Takes a lock file for this process alone, or returns undefined when another process has it. The system frees it when the
 * process ends, however it ends.
 */
export function lockFile(path: string): Disposable | undefined {
  makeFolder(dirname(path))
  const lock = new DatabaseSync(path)
  try {
    lock.exec('begin exclusive')
  } catch (error) {
    lock.close()
    if (isBusy(error)) return undefined
    throw error
  }
  return { [Symbol.dispose]: () => lock.close() }
}

function sqliteDialect(writer: Writer, reading: Statements): Dialect {
  return {
    createAdapter: () => new OurAdapter(),
    createDriver: () => sqliteDriver(writer, reading),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new WithoutRowLocks(),
  }
}

class OurAdapter extends SqliteAdapter {
  /** SQLite can roll back DDL; saying so makes Kysely run a migration inside one transaction. */
  override get supportsTransactionalDdl(): boolean {
    return true
  }

  /** Who has to wait for whom is known better here: Kysely would let nobody read while someone writes. */
  override get supportsMultipleConnections(): boolean {
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

function sqliteDriver(writer: Writer, reading: Statements): Driver {
  const laneOf = (connection: DatabaseConnection) => connection as Lane
  return {
    init: async () => {},
    acquireConnection: async () => new Lane(writer, reading),
    releaseConnection: async () => {},
    beginTransaction: (connection) => laneOf(connection).begin(),
    commitTransaction: (connection) => laneOf(connection).commit(),
    rollbackTransaction: (connection) => laneOf(connection).rollback(),
    savepoint: async (connection, name) => laneOf(connection).run(`savepoint ${name}`),
    rollbackToSavepoint: async (connection, name) => laneOf(connection).run(`rollback to ${name}`),
    releaseSavepoint: async (connection, name) => laneOf(connection).run(`release ${name}`),
    async destroy() {
      // The writer last: whoever closes the file last moves the log into it.
      reading.close()
      await writer.close()
    },
  }
}

/** What Kysely takes for a connection: in a transaction a turn on the writer, otherwise nothing of its own. */
class Lane implements DatabaseConnection {
  readonly #writer: Writer
  readonly #reading: Statements
  #turn: Turn | undefined

  constructor(writer: Writer, reading: Statements) {
    this.#writer = writer
    this.#reading = reading
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    if (this.#turn) return this.#writer.execute<R>(this.#turn, query)
    if (isRead(query)) return await whenFree(() => this.#reading.execute<R>(query))
    const turn = await this.#writer.begin()
    let result: QueryResult<R>
    try {
      result = this.#writer.execute<R>(turn, query)
    } catch (error) {
      await this.#writer.rollback(turn)
      throw error
    }
    await this.#writer.commit(turn)
    return result
  }

  // biome-ignore lint/correctness/useYield: nothing here streams rows; the interface asks for the method.
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('streaming queries are not supported on SQLite')
  }

  async begin(): Promise<void> {
    this.#turn = await this.#writer.begin()
  }

  async commit(): Promise<void> {
    await this.#writer.commit(this.#takeTurn())
  }

  /** Kysely also calls it after a commit that failed: then there is nothing left to do. */
  async rollback(): Promise<void> {
    if (this.#turn) await this.#writer.rollback(this.#takeTurn())
  }

  run(sql: string): void {
    if (this.#turn) this.#writer.run(this.#turn, sql)
  }

  #takeTurn(): Turn {
    const turn = this.#turn
    if (!turn) throw new Error('there is no transaction')
    this.#turn = undefined
    return turn
  }
}

/** Of raw statements those that can do nothing but read. */
const isRead = ({ query, sql }: CompiledQuery): boolean =>
  query.kind === 'SelectQueryNode' || (query.kind === 'RawNode' && /^\s*(select|pragma|explain)\b/i.test(sql))
