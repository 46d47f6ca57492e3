/** Finds attachments, for their owner and for the CDN. Foreign and unknown ids look the same. */
import type { App } from '../app.ts'
import type { Db } from '../db/schema.ts'
import { Failure } from '../failure.ts'
import { type AttachmentRow, findAttachment, findOwnAttachment, holdAttachments, isVanished } from './rows.ts'

export type CompleteAttachment = AttachmentRow & { storage_key: string; sha256: string }

/** Failure attachment_not_found. */
export async function getAttachment(
  app: Pick<App, 'db' | 'sandbox' | 'clock'>,
  partnerId: string,
  id: string,
): Promise<AttachmentRow> {
  return shown(app, await findOwnAttachment(app.db, partnerId, id.toLowerCase()))
}

type Viewer = Pick<App, 'sandbox' | 'clock'>

function shown(app: Viewer, row: AttachmentRow | undefined): AttachmentRow {
  if (!row || isVanished(row, app.clock.now())) throw new Failure('attachment_not_found')
  if (app.sandbox?.faults.isHeldBack(row.id, app.sandbox.clock.now())) return { ...row, status: 'pending' }
  return row
}

/**
 * An attachment that may be sent. Failures: attachment_not_found, attachment_not_ready when the bytes are missing, and the
 * reason of the refusal when the content was refused.
 */
export async function getSendable(
  app: Pick<App, 'db' | 'sandbox' | 'clock'>,
  partnerId: string,
  id: string,
): Promise<CompleteAttachment> {
  return checkSendable(app, await findOwnAttachment(app.db, partnerId, id.toLowerCase()))
}

/** The same for several that were found before, which nobody can delete until the transaction ends. */
export async function holdSendable(
  tx: Db,
  app: Viewer,
  attachments: readonly Pick<AttachmentRow, 'id'>[],
): Promise<void> {
  if (attachments.length === 0) return
  const ids = [...new Set(attachments.map(({ id }) => id))]
  const held = new Map((await holdAttachments(tx, ids)).map((row) => [row.id, row]))
  for (const id of ids) checkSendable(app, held.get(id))
}

function checkSendable(app: Viewer, found: AttachmentRow | undefined): CompleteAttachment {
  const row = shown(app, found)
  if (row.status === 'failed') throw new Failure(row.refusal ?? 'bad_file_type', row.refusal_message ?? undefined)
  if (!isComplete(row)) throw new Failure('attachment_not_ready', `Attachment ${row.id} has not been uploaded yet`)
  return row
}

/** What the CDN may show under this address: every segment has to be right, and so has the tier. */
export async function findServable(
  app: Pick<App, 'db' | 'clock'>,
  address: { partner_id: string; id: string; filename: string; ephemeral: boolean },
): Promise<CompleteAttachment | undefined> {
  const row = await findAttachment(app.db, address.id)
  if (row?.partner_id !== address.partner_id || row.filename !== address.filename) return undefined
  if ((row.vanishes_at !== null) !== address.ephemeral || isVanished(row, app.clock.now())) return undefined
  return isComplete(row) ? row : undefined
}

export function isComplete(row: AttachmentRow): row is CompleteAttachment {
  return row.status === 'complete' && row.storage_key !== null && row.sha256 !== null
}
