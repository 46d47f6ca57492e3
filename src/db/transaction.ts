/**
 * Transactions whose end matters: run again when the database preferred another one, and when the last word was lost, saying
 * that nobody knows.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../failure.ts'
import type { Db } from './schema.ts'

/** The database ended this transaction in favour of another one: nothing of it happened, and it may be run again. */
export class GaveWay extends Failure {
  constructor(options: { cause: unknown }) {
    super('database_unavailable', 'The database is busy; try again', options)
  }
}

/** The commit was asked for and not answered: what was written may be there or not, so nothing must be taken back. */
export class CommitUnknown extends Failure {
  constructor(options: { cause: unknown }) {
    super('database_unavailable', 'The database did not confirm the change; try again', options)
  }
}

const TRIES = 3

/**
 * One transaction. `work` may run up to three times, each time as if it were the first, and touches nothing but the
 * database. Rejects with CommitUnknown, or with what `work` threw: then nothing was written.
 */
export async function inTransaction<T>(db: Db, work: (tx: Db) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    let committing = false
    try {
      return await db.transaction().execute(async (tx) => {
        const result = await work(tx)
        committing = true
        return result
      })
    } catch (error) {
      if (!(error instanceof GaveWay)) throw committing ? new CommitUnknown({ cause: error }) : error
      if (attempt === TRIES) throw error
    }
  }
}

const RETRY_MS = 250

/**
 * Writes down what has happened outside and cannot be taken back: tries again while the database is away, until `signal`.
 * `write` is repeated after a commit that was not confirmed, and must then find its own traces.
 */
export async function persist(write: () => Promise<void>, signal: AbortSignal): Promise<void> {
  for (;;) {
    try {
      await write()
      return
    } catch (error) {
      if (signal.aborted || !(error instanceof Failure && error.failure === 'database_unavailable')) throw error
      await sleep(RETRY_MS)
    }
  }
}
