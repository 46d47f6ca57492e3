/**
 * One connection of node:sqlite to one file, with its statements kept: Kysely prepares each query anew, which costs more than
 * running it. Everything here is synchronous; errors leave in the house's words.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import type { CompiledQuery, QueryResult } from 'kysely'
import { Failure } from '../failure.ts'

const STATEMENTS_KEPT = 500
const BUSY_WAIT_MS = 5_000
const BUSY_STEP_MS = 25

/** SQLite result codes (https://sqlite.org/rescode.html). */
const SQLITE_BUSY = 5
const SQLITE_LOCKED = 6
const SQLITE_NOMEM = 7
const SQLITE_INTERRUPT = 9
const SQLITE_IOERR = 10
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13

/** After these SQLite may have rolled back all of a transaction (https://sqlite.org/lang_transaction.html, part 3). */
const ENDS_TRANSACTION = [SQLITE_BUSY, SQLITE_NOMEM, SQLITE_INTERRUPT, SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_FULL]

export class Statements {
  readonly #database: DatabaseSync
  readonly #kept = new Map<string, Kept>()

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  run(sql: string): void {
    this.#prepare(sql).statement.run()
  }

  /** Failure bad_parameter for a text with a NUL character: PostgreSQL cannot keep it, and SQLite's own functions end a text there. */
  execute<R>({ sql, parameters, query }: CompiledQuery): QueryResult<R> {
    const values = parameters as Value[]
    if (values.some((value) => typeof value === 'string' && value.includes('\0'))) {
      throw new Failure('bad_parameter', 'A text holds a NUL character')
    }
    const kept = this.#prepare(sql)
    const returnsRows = query.kind === 'SelectQueryNode' || query.kind === 'RawNode' || 'returning' in query
    if (returnsRows) return { rows: rowsOf(kept, values) as R[] }
    return { rows: [], numAffectedRows: BigInt(kept.statement.run(...values).changes) }
  }

  close(): void {
    this.#kept.clear()
    this.#database.close()
  }

  #prepare(sql: string): Kept {
    const known = this.#kept.get(sql)
    if (known) return known
    if (this.#kept.size >= STATEMENTS_KEPT) this.#kept.clear()
    const statement = this.#database.prepare(sql)
    statement.setReturnArrays(true)
    const kept = { statement, columns: columnsOf(statement) }
    this.#kept.set(sql, kept)
    return kept
  }
}

type Value = string | number | bigint | null

type Kept = { readonly statement: StatementSync; columns: readonly string[] }

const columnsOf = (statement: StatementSync): string[] => statement.columns().map(({ name }) => name)

/** From arrays, since for objects node:sqlite makes the name of each column anew in each row. */
function rowsOf(kept: Kept, values: Value[]): Record<string, unknown>[] {
  const found = kept.statement.all(...values) as unknown as Value[][]
  // Another process has added columns meanwhile. Migrations do no more than that to a table of a running server.
  if (found[0] && found[0].length !== kept.columns.length) kept.columns = columnsOf(kept.statement)
  return found.map((cells) => {
    const row: Record<string, unknown> = {}
    for (const [i, column] of kept.columns.entries()) row[column] = cells[i]
    return row
  })
}

/** Another connection has the lock: the same may be tried again. */
export const isBusy = (error: unknown): boolean => [SQLITE_BUSY, SQLITE_LOCKED].includes(resultCode(error))

/**
 * Does it again while another process has the lock, for five seconds. Those who wait in one line pass the same `line`, whose
 * patience is one: five seconds each would add up. Failure database_unavailable.
 */
export async function whenFree<T>(work: () => T, line: { lockedOutSince?: number } = {}): Promise<T> {
  for (;;) {
    try {
      const result = work()
      delete line.lockedOutSince
      return result
    } catch (error) {
      if (!isBusy(error)) throw translate(error)
      line.lockedOutSince ??= performance.now()
      if (performance.now() - line.lockedOutSince >= BUSY_WAIT_MS) throw translate(error)
      await sleep(BUSY_STEP_MS)
    }
  }
}

/** Not only the statement failed: nothing of its transaction can be counted on. */
export const endsTransaction = (error: unknown): boolean => ENDS_TRANSACTION.includes(resultCode(error))

/** What callers are told. Failures: database_unavailable, database_failed; what is nobody's fault but ours stays as it is. */
export function translate(error: unknown): unknown {
  if (isBusy(error)) return new Failure('database_unavailable', 'The database is busy; try again', { cause: error })
  const code = resultCode(error)
  if (code === SQLITE_FULL) return new Failure('database_unavailable', 'The disk is full', { cause: error })
  if (code === SQLITE_IOERR) return new Failure('database_failed', undefined, { cause: error })
  return error
}

function resultCode(error: unknown): number {
  const code = error instanceof Error && 'errcode' in error ? error.errcode : undefined
  return typeof code === 'number' ? code & 0xff : 0
}
