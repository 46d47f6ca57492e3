/**
 * Gives the room of deleted small objects back: where most of a file of theirs is dead, what lives is stored anew, its row is
 * told, and the file is removed. At every moment the row names bytes that are there; a reader that looked at the row before
 * looks at it again when it finds nothing.
 */
import { buffer } from 'node:stream/consumers'
import type { App } from '../app.ts'
import { inTransaction } from '../db/transaction.ts'
import { enqueue } from '../jobs/jobs.ts'
import type { SmallObjects } from '../storage/storage.ts'
import { findStored, moveStored } from './rows.ts'

const ROWS_AT_A_TIME = 500
const SIDE_BY_SIDE = 16

/**
 * A part of the job retention.sweep. Safe to repeat. A file that holds anything without a row stays as it is: this may be the
 * wrong database, and only `satchel sweep --delete` may judge that.
 */
export async function tidyStorage(app: Place, signal: AbortSignal): Promise<void> {
  const { small } = app.storage
  await small?.compact((keys) => moveAll(app, small, keys, signal), signal)
}

type Place = Pick<App, 'db' | 'storage' | 'clock' | 'newId'>

/** False: not all of it. What was moved is deleted where it was in any case, and what is left comes with the next hour. */
async function moveAll(
  app: Place,
  small: SmallObjects,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<boolean> {
  if (!(await haveRows(app, keys))) return false
  for (const some of portions(keys, SIDE_BY_SIDE)) {
    if (signal.aborted) return false
    const moves = await Promise.allSettled(some.map((key) => move(app, small, key)))
    const failed = moves.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  }
  return true
}

async function haveRows({ db }: Place, keys: readonly string[]): Promise<boolean> {
  for (const some of portions(keys, ROWS_AT_A_TIME)) {
    if ((await findStored(db, some)).length < some.length) return false
  }
  return true
}

async function move({ db, storage, clock, newId }: Place, small: SmallObjects, from: string): Promise<void> {
  const body = await storage.get(from)
  if (!body) return // deleted meanwhile
  const to = await small.append(await buffer(body))
  const isMoved = await inTransaction(db, async (tx) => {
    if (!(await moveStored(tx, { from, to }))) return false
    // With the row, so that whatever happens next no copy stays that nobody knows of.
    const payload = { storage_key: from }
    await enqueue(tx, { id: newId(), kind: 'bytes.delete', payload, runAt: clock.now() })
    return true
  })
  // Deleted just now: whoever did that knows the old key only.
  if (!isMoved) await storage.delete(to)
}

function* portions<T>(all: readonly T[], length: number): Generator<readonly T[]> {
  for (let at = 0; at < all.length; at += length) yield all.slice(at, at + length)
}
