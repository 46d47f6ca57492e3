/** A file that somebody sent to one of our lines. The type table is not enforced on it: it is what it is. */
import type { Readable } from 'node:stream'
import type { App } from '../app.ts'
import { Failure } from '../failure.ts'
import { detect } from '../media/detect.ts'
import { UPLOAD_LIMIT_BYTES } from '../media/types.ts'
import { spool } from '../storage/spool.ts'
import { cleanFilename } from './filename.ts'
import type { CompleteAttachment } from './get.ts'
import { keepFile } from './keep.ts'

export type InboundFile = { partnerId: string; filename: string; body: Readable; signal: AbortSignal }

/**
 * Stores the file and returns its row, for the caller to insert. Rejects with Failure bad_parameter for an impossible name or an empty file,
 * and with BodyTooLong past 100 MB; nothing is stored then. A file of a type we do not know is application/octet-stream.
 */
export async function storeInbound(app: App, o: InboundFile): Promise<CompleteAttachment> {
  const filename = cleanFilename(o.filename)
  await using file = await spool(app.spoolFolder, o.body, UPLOAD_LIMIT_BYTES, o.signal)
  if (file.bytes.size === 0) throw new Failure('bad_parameter', `media: ${filename} is empty`)
  const detection = await detect(file.bytes, { filename, text: file.text, signal: o.signal })
  const contentType = 'type' in detection ? detection.type.contentType : 'application/octet-stream'
  return await keepFile(app, file, {
    partnerId: o.partnerId,
    filename,
    contentType,
    source: 'inbound',
    signal: o.signal,
  })
}
