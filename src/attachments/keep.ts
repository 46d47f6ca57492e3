/**
 * Stores a file that lies in the spool and says what its row is. The row is the caller's to insert, in the transaction of the
 * message, so that a message which is not accepted leaves no attachment; its bytes are taken back by `discard`.
 */
import type { App } from '../app.ts'
import { newStorageKey } from '../storage/key.ts'
import type { Spooled } from '../storage/spool.ts'
import { vanishTime } from './ephemeral.ts'
import type { CompleteAttachment } from './get.ts'

export type Kept = {
  partnerId: string
  filename: string
  contentType: string
  source: 'url' | 'inbound'
  signal: AbortSignal
}

export async function keepFile(app: App, file: Spooled, o: Kept): Promise<CompleteAttachment> {
  const storageKey = await store(app, file, o.signal)
  app.metrics.received.inc({ source: o.source }, file.bytes.size)
  const now = app.clock.now()
  return {
    id: app.newId(),
    partner_id: o.partnerId,
    filename: o.filename,
    declared_type: o.contentType,
    content_type: o.contentType,
    size_bytes: file.bytes.size,
    status: 'complete',
    source: o.source,
    storage_key: storageKey,
    sha256: file.sha256,
    refusal: null,
    refusal_message: null,
    created_at: now,
    upload_expires_at: now,
    completed_at: now,
    vanishes_at: await vanishTime(app.db, o.partnerId, now),
  }
}

async function store({ storage, newId }: App, file: Spooled, signal: AbortSignal): Promise<string> {
  const { size } = file.bytes
  if (storage.small && size <= storage.small.maxBytes) {
    const body = await file.bytes.read(0, size)
    signal.throwIfAborted()
    return await storage.small.append(body)
  }
  const storageKey = newStorageKey(newId)
  signal.throwIfAborted()
  if (await storage.adopt?.(storageKey, file.path)) return storageKey
  const stream = file.stream()
  try {
    await storage.put(storageKey, stream, size, { signal })
    return storageKey
  } finally {
    stream.destroy()
  }
}

/** Takes back the bytes of files whose message was not accepted. */
export async function discard(app: Pick<App, 'storage'>, files: readonly CompleteAttachment[]): Promise<void> {
  await Promise.all(files.map(({ storage_key }) => app.storage.delete(storage_key)))
}
