/**
 * Group commit. Changes run one after the other on one connection, each inside a savepoint, and those that come together
 * share one transaction of SQLite: one commit, one sync of the disk. Nobody hears of an outcome, good or bad, before that commit:
 * what is acknowledged is on the disk, and who was refused because of another's row can read that row. Others read on a
 * connection of their own, so what is not committed yet is seen by nobody else.
 *
 * A group ends when nobody waits at the end of a turn of the event loop, or when it has grown large. When its commit fails,
 * or SQLite gives it up half way (disk full, input/output error), all of it fails.
 */
import type { CompiledQuery, QueryResult } from 'kysely'
import { endsTransaction, type Statements, translate, whenFree } from './sqlite-statements.ts'

/** Bounds how long the first of a group waits for the last. */
const GROUP_CHANGES = 256

/** Changes that share a transaction. `end` resolves with the commit and rejects when nothing of them was kept. */
class Group {
  changes = 0
  failure: unknown
  readonly end = Promise.withResolvers<void>()
  constructor() {
    this.end.promise.catch(() => {}) // who has an interest in it awaits it; nobody may be left
  }
}

/** One change: a turn on the connection, taken by `Writer.begin` and given back by `commit` or `rollback`. */
export type Turn = { readonly group: Group }

export class Writer {
  readonly #statements: Statements
  readonly #waiting: (() => void)[] = []
  #isTaken = false
  #group: Group | undefined
  #isEnding = false
  /** Everyone waits in line for this connection, so the patience with other processes is the line's. */
  #line = {}

  constructor(statements: Statements) {
    this.#statements = statements
  }

  /** Waits for the turn, and for other processes up to five seconds in all. Failure database_unavailable. */
  async begin(): Promise<Turn> {
    if (this.#isTaken) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    this.#isTaken = true
    try {
      if (!this.#group) {
        // "immediate": the write lock first, so that a change which reads before it writes cannot fail half way.
        await whenFree(() => this.#statements.run('begin immediate'), this.#line)
        this.#group = new Group()
      }
      this.#statements.run('savepoint change')
    } catch (error) {
      if (this.#group && endsTransaction(error)) this.#giveUp(this.#group, error)
      this.#leave()
      throw translate(error)
    }
    this.#group.changes++
    return { group: this.#group }
  }

  execute<R>({ group }: Turn, query: CompiledQuery): QueryResult<R> {
    if (group.failure !== undefined) throw group.failure
    try {
      return this.#statements.execute<R>(query)
    } catch (error) {
      if (endsTransaction(error)) this.#giveUp(group, error)
      throw translate(error)
    }
  }

  /** For savepoints inside of the change. */
  run({ group }: Turn, sql: string): void {
    if (group.failure !== undefined) throw group.failure
    this.#statements.run(sql)
  }

  /** Resolves when the change is on the disk. */
  async commit({ group }: Turn): Promise<void> {
    if (group.failure === undefined) {
      try {
        this.#statements.run('release change')
      } catch (error) {
        this.#giveUp(group, error)
      }
    }
    this.#leave()
    await group.end.promise
  }

  /** Takes the change back, and resolves when what the group has done besides is decided. */
  async rollback({ group }: Turn): Promise<void> {
    if (group.failure === undefined) {
      try {
        this.#statements.run('rollback to change')
        this.#statements.run('release change')
      } catch (error) {
        this.#giveUp(group, error) // SQLite has rolled back all of it by itself
      }
    }
    this.#leave()
    await group.end.promise.catch(() => {})
  }

  /** Keeps what is done, and closes the connection. */
  async close(): Promise<void> {
    if (this.#group && !this.#isTaken) this.#end()
    await this.#group?.end.promise.catch(() => {})
    this.#statements.close()
  }

  #leave(): void {
    if (this.#group && this.#group.changes >= GROUP_CHANGES) this.#end()
    const next = this.#waiting.shift()
    if (next) {
      next()
      return
    }
    this.#isTaken = false
    this.#line = {}
    if (!this.#group || this.#isEnding) return
    this.#isEnding = true
    setImmediate(() => {
      this.#isEnding = false
      if (this.#group && !this.#isTaken) this.#end()
    })
  }

  #end(): void {
    const group = this.#group
    if (!group) return
    try {
      this.#statements.run('commit')
      this.#group = undefined
      group.end.resolve()
    } catch (error) {
      this.#giveUp(group, error)
    }
  }

  #giveUp(group: Group, error: unknown): void {
    try {
      this.#statements.run('rollback')
    } catch {
      // SQLite has done that by itself.
    }
    this.#group = undefined
    group.failure = translate(error)
    group.end.reject(group.failure)
  }
}
