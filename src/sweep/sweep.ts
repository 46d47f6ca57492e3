/**
 * Compares the storage with the rows, both in key order side by side, with flat memory however many there are. Both change
 * while it runs, so whatever looks wrong is looked up again before it counts. The order of a database is that of its
 * collation: a different one costs look-ups and never a wrong finding.
 *
 * Safe to delete is only an object of ours without a row that is old enough: an upload stores its bytes first, and nothing
 * takes longer from there to the row than the half hour that a request may last.
 */
import type { Db } from '../db/schema.ts'
import type { Entry, Storage } from '../storage/storage.ts'
import { findDeletionJobs, findStaged, findStored, listStored, type Stored } from './rows.ts'

export const SMALLEST_AGE_MS = 3_600_000

/** Where our objects are; whatever else lies in a storage is not ours to judge. */
const OURS = ['media/', 'pack/']
const STAGING = 'staging/'

const isOurs = (key: string): boolean => OURS.some((folder) => key.startsWith(folder))

export type Finding =
  /** An object that no attachment has. */
  | { finding: 'no_row'; key: string; size_bytes: number; modified: number }
  /** The body of an upload straight to the bucket, whose attachment is finished or dead. */
  | { finding: 'staged'; key: string; size_bytes: number; modified: number }
  /** A complete attachment whose bytes are not there, or not as many as they were: restore them from a back-up. */
  | { finding: 'no_object'; key: string; attachment_id: string; size_bytes: number }
  | { finding: 'wrong_size'; key: string; attachment_id: string; size_bytes: number; found_bytes: number }

export type Totals = { objects: number; bytes: number; rows: number; young: number; foreign: number }

type Comparison = {
  db: Db
  storage: Storage
  now: number
  /** Objects that are younger are left alone and are no finding. */
  olderThanMs: number
  onProgress?: (totals: Readonly<Totals>) => void
}

/** Yields each finding; returns the totals. Objects with a deletion job waiting are on their way out and are no finding. */
export async function* compare(o: Comparison): AsyncGenerator<Finding, Totals> {
  const totals: Totals = { objects: 0, bytes: 0, rows: 0, young: 0, foreign: 0 }
  const suspects: Entry[] = []
  const rows = listStored(o.db)[Symbol.asyncIterator]()
  let row = (await rows.next()).value as Stored | undefined

  async function nextRow(): Promise<void> {
    totals.rows++
    row = (await rows.next()).value as Stored | undefined
  }

  for await (const entry of o.storage.list()) {
    while (row && row.storage_key < entry.key) {
      yield* lost(o, row)
      await nextRow()
    }
    totals.objects++
    totals.bytes += entry.size
    if (totals.objects % 1000 === 0) o.onProgress?.(totals)
    if (row?.storage_key === entry.key) {
      if (row.size_bytes !== entry.size) yield* lost(o, row)
      await nextRow()
    } else if (!isOurs(entry.key) && !entry.key.startsWith(STAGING)) totals.foreign++
    else if (entry.modified > o.now - o.olderThanMs) totals.young++
    else suspects.push(entry)
    if (suspects.length >= 500) yield* judge(o, suspects.splice(0))
  }
  for (; row; await nextRow()) yield* lost(o, row)
  yield* judge(o, suspects)
  return totals
}

/** Looks at a row without its object once more: either may have gone since. */
async function* lost({ db, storage }: Comparison, { storage_key: key }: Stored): AsyncGenerator<Finding> {
  const found = await storage.stat(key)
  const [row] = await findStored(db, [key])
  if (!row) return
  const about = { key, attachment_id: row.id, size_bytes: row.size_bytes }
  if (!found) yield { finding: 'no_object', ...about }
  else if (found.size !== row.size_bytes) yield { finding: 'wrong_size', ...about, found_bytes: found.size }
}

async function* judge({ db, now }: Comparison, entries: readonly Entry[]): AsyncGenerator<Finding> {
  if (entries.length === 0) return
  const keys = entries.map(({ key }) => key)
  const known = new Set((await findStored(db, keys)).map((row) => row.storage_key))
  const leaving = await findDeletionJobs(db, keys)
  const attachmentOf = (key: string) => key.split('/').at(-1) ?? ''
  const staged = keys.filter((key) => key.startsWith(STAGING)).map(attachmentOf)
  const open = new Set(
    (await findStaged(db, staged)).filter((row) => row.upload_expires_at > now - SMALLEST_AGE_MS).map((row) => row.id),
  )
  for (const { key, size, modified } of entries) {
    if (known.has(key) || leaving.has(key)) continue
    if (isOurs(key)) yield { finding: 'no_row', key, size_bytes: size, modified }
    else if (!open.has(attachmentOf(key))) yield { finding: 'staged', key, size_bytes: size, modified }
  }
}
