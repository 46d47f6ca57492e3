/**
 * Copies the bytes of every complete attachment as a stream, and compares their SHA-256 with the row. An object that is not
 * what its row says does not stay in the target.
 */
import { createHash } from 'node:crypto'
import type { Db } from '../db/schema.ts'
import type { Storage } from '../storage/storage.ts'
import { findStep, saveStep } from './progress.ts'

const SIDE_BY_SIDE = 8

type File = { id: string; storage_key: string; size_bytes: number; sha256: string }
export type Problem = { attachment_id: string; key: string; problem: string }
export type Copied = { objects: number; bytes: number; problems: Problem[] }

type Move = {
  source: { db: Db; storage: Storage }
  target: { db: Db; storage: Storage }
  now: () => number
  onProgress: (o: { objects: number; bytes: number }) => void
}

/**
 * Goes on where it stopped. `problems` are those of this run; verifying finds all. `shared`: both sides have the same storage,
 * and nothing needs to be copied.
 */
export async function copyObjects({
  source,
  target,
  now,
  onProgress,
  shared,
}: Move & { shared: boolean }): Promise<Copied> {
  const step = await findStep(target.db, 'objects')
  const done: Copied = { objects: step.copied, bytes: 0, problems: [] }
  if (step.finished) return done
  let after = step.after
  for await (const files of pages(source.db, String(after?.[0] ?? ''))) {
    await eachOf(files, done, (file) =>
      shared ? check(target.storage, file) : copy(source.storage, target.storage, file),
    )
    after = [files.at(-1)?.id ?? '']
    await saveStep(target.db, 'objects', { after, copied: done.objects })
    onProgress(done)
  }
  await saveStep(target.db, 'objects', { after, copied: done.objects, now: now() })
  return done
}

/** Reads every object of the source's rows in the target. What the target has deleted since is not looked for. */
export async function verifyObjects({ source, target, onProgress }: Move): Promise<Copied> {
  const done: Copied = { objects: 0, bytes: 0, problems: [] }
  for await (const files of pages(source.db, '')) {
    const ids = files.map(({ id }) => id)
    const kept = await target.db.selectFrom('attachments').select('id').where('id', 'in', ids).execute()
    const there = new Set(kept.map(({ id }) => id))
    await eachOf(
      files.filter(({ id }) => there.has(id)),
      done,
      (file) => check(target.storage, file),
    )
    onProgress(done)
  }
  return done
}

/** `undefined`: all is well. */
type Work = (file: File) => Promise<string | undefined>

async function eachOf(files: readonly File[], done: Copied, work: Work): Promise<void> {
  await Promise.all(
    files.map(async (file) => {
      const problem = await work(file)
      if (problem) done.problems.push({ attachment_id: file.id, key: file.storage_key, problem })
      else {
        done.objects++
        done.bytes += file.size_bytes
      }
    }),
  )
}

async function copy(from: Storage, to: Storage, file: File): Promise<string | undefined> {
  const found = await from.stat(file.storage_key)
  const body = found && (await from.get(file.storage_key))
  if (!found || !body) return 'not in the source'
  const sha256 = createHash('sha256')
  try {
    await to.put(file.storage_key, body, found.size, {
      onChunk(chunk) {
        sha256.update(chunk)
        return undefined
      },
    })
  } finally {
    body.destroy()
  }
  if (found.size === file.size_bytes && sha256.digest('hex') === file.sha256) return undefined
  await to.delete(file.storage_key)
  return 'other bytes in the source than were stored'
}

async function check(storage: Storage, file: File): Promise<string | undefined> {
  const body = await storage.get(file.storage_key)
  if (!body) return 'not in the target'
  const sha256 = createHash('sha256')
  for await (const chunk of body) sha256.update(chunk as Buffer)
  return sha256.digest('hex') === file.sha256 ? undefined : 'other bytes in the target than were stored'
}

async function* pages(db: Db, after: string): AsyncGenerator<File[]> {
  for (let last = after; ; ) {
    const page = await db
      .selectFrom('attachments')
      .select(['id', 'storage_key', 'size_bytes', 'sha256'])
      .where('status', '=', 'complete')
      .where('id', '>', last)
      .orderBy('id')
      .limit(SIDE_BY_SIDE)
      .execute()
    if (page.length > 0) yield page as File[]
    last = page.at(-1)?.id ?? last
    if (page.length < SIDE_BY_SIDE) return
  }
}
