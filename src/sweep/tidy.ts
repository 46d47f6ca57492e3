/**
 * Gives the room of deleted small objects back: where most of a file of theirs is dead, what lives is stored anew, its row is
 * told, and the file is removed. At every moment the row names bytes that are there; a reader that looked at the row before
 * looks at it again when it finds nothing.
 */
import { buffer } from 'node:stream/consumers'
import type { App } from '../app.ts'
import type { SmallObjects } from '../storage/storage.ts'
import { findStored, moveStored } from './rows.ts'

const ROWS_AT_A_TIME = 500
const SIDE_BY_SIDE = 16

/**
 * A part of the job retention.sweep. Safe to repeat. A file that holds anything without a row stays as it is: this may be the
 * wrong database, and only `satchel sweep --delete` may judge that.
 */
export async function tidyStorage(app: Pick<App, 'db' | 'storage'>, signal: AbortSignal): Promise<void> {
  const { small } = app.storage
  await small?.compact((keys) => moveAll(app, small, keys, signal))
}

type Place = Pick<App, 'db' | 'storage'>

/** False: not all of it, and then what was moved is deleted where it was. What is left comes with the next hour. */
async function moveAll(
  app: Place,
  small: SmallObjects,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<boolean> {
  if (signal.aborted || !(await haveRows(app, keys))) return false
  const moved: string[] = []
  try {
    for (const some of portions(keys, SIDE_BY_SIDE)) {
      if (signal.aborted) break
      for (const result of await Promise.allSettled(some.map((key) => move(app, small, key)))) {
        if (result.status === 'rejected') throw result.reason
        moved.push(result.value)
      }
    }
  } finally {
    if (moved.length < keys.length) await Promise.all(moved.map((key) => app.storage.delete(key)))
  }
  return moved.length === keys.length
}

async function haveRows({ db }: Place, keys: readonly string[]): Promise<boolean> {
  for (const some of portions(keys, ROWS_AT_A_TIME)) {
    if ((await findStored(db, some)).length < some.length) return false
  }
  return true
}

async function move({ db, storage }: Place, small: SmallObjects, from: string): Promise<string> {
  const body = await storage.get(from)
  if (!body) return from // deleted meanwhile
  const to = await small.append(await buffer(body))
  // Deleted just now: whoever did that knows the old key only.
  if (!(await moveStored(db, { from, to }))) await storage.delete(to)
  return from
}

function* portions<T>(all: readonly T[], length: number): Generator<readonly T[]> {
  for (let at = 0; at < all.length; at += length) yield all.slice(at, at + length)
}
