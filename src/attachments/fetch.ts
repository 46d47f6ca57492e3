/**
 * Media by direct URL: downloaded through the guarded path, looked at, stored. The row is the caller's to insert, in the
 * transaction of the message, so that a message which is not accepted leaves no attachment.
 */
import type { App } from '../app.ts'
import { Failure } from '../failure.ts'
import { gate } from '../gate.ts'
import { detect } from '../media/detect.ts'
import { judgeUrl } from '../media/judge.ts'
import { reportOn } from '../media/report.ts'
import { type MediaType, URL_LIMIT_BYTES } from '../media/types.ts'
import { type Spooled, spool } from '../storage/spool.ts'
import { filenameFromUrl } from './filename.ts'
import type { CompleteAttachment } from './get.ts'
import { keepFile } from './keep.ts'

const FILE_TIME_MS = 10_000
/** Of all callers together: each has a socket, a temporary file and perhaps a look-up of a name that hangs. */
const DOWNLOADS_AT_ONCE = 64
const downloads = gate(DOWNLOADS_AT_ONCE)

/** `field` names the URL in messages, e.g. `message.parts[0].url`. */
export type FetchAttachment = { partnerId: string; url: string; field: string; signal: AbortSignal }

/**
 * Stores the file and returns its row. Nothing is stored when it rejects: bad_parameter, download_failed, file_too_large,
 * bad_file_type, content_mismatch, a Failure of the storage, or the abort's reason.
 */
export async function fetchAttachment(app: App, o: FetchAttachment): Promise<CompleteAttachment> {
  using _place = await downloads.enter(o.signal)
  await actOutFaults(app, o)
  const { body, contentType } = await app.remote.download(o.url, {
    field: o.field,
    maxBytes: URL_LIMIT_BYTES,
    timeoutMs: FILE_TIME_MS,
    signal: o.signal,
  })
  try {
    await using file = await spoolBody(app, body, o)
    const type = await inspect(app, file, o, contentType)
    const filename = filenameFromUrl(o.url, type.extension)
    const { partnerId, signal } = o
    return await keepFile(app, file, { partnerId, filename, contentType: type.contentType, source: 'url', signal })
  } finally {
    body.destroy()
  }
}

async function actOutFaults({ sandbox, clock }: App, o: FetchAttachment): Promise<void> {
  if (!sandbox) return
  const slow = sandbox.faults.take('media_download_slow', o.partnerId)
  if (slow) await clock.sleep((slow.seconds ?? 5) * 1000, o.signal)
  if (sandbox.faults.take('media_download_failed', o.partnerId)) throw new Failure('download_failed')
}

async function spoolBody(app: App, body: import('node:stream').Readable, o: FetchAttachment): Promise<Spooled> {
  let broken: unknown
  body.once('error', (error) => {
    broken = error
  })
  try {
    return await spool(app.spoolFolder, body, URL_LIMIT_BYTES, o.signal)
  } catch (error) {
    throw broken instanceof Failure ? broken : error
  }
}

async function inspect(
  app: App,
  file: Spooled,
  o: FetchAttachment,
  originType: string | undefined,
): Promise<MediaType> {
  const filename = filenameFromUrl(o.url, '')
  const detection = await detect(file.bytes, { filename, text: file.text, signal: o.signal })
  const verdict = judgeUrl(detection, { filename, ...(originType === undefined ? {} : { originType }) })
  if (verdict.accepted) return verdict.type
  app.log.info({ report: await reportOn(file.bytes, { filename, detection }) }, 'file at a URL refused')
  throw new Failure(verdict.failure, `${o.field}: ${verdict.message}`)
}
