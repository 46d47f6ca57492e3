/** Attachments as they go over the wire (contract 1.1 and 1.3). */
import { type Static, Type } from 'typebox'
import { iso, Time, Uuid } from '../http/schemas.ts'
import type { LinkTo } from './links.ts'
import type { AttachmentRow } from './rows.ts'

export const CreateAttachment = Type.Object({
  filename: Type.String({ description: '1 to 255 characters; of a path only the last segment is kept' }),
  content_type: Type.String({ description: 'One of the accepted MIME types', examples: ['image/jpeg'] }),
  size_bytes: Type.Integer({ description: '1 to 104857600', examples: [245760] }),
})

export const CreatedAttachment = Type.Object(
  {
    attachment_id: Uuid,
    upload_url: Type.String({ description: 'PUT the bytes here within 15 minutes' }),
    download_url: Type.String({ description: 'Permanent, but for the ephemeral tier; 404 until the bytes are in' }),
    http_method: Type.Literal('PUT'),
    expires_at: Time,
    required_headers: Type.Record(Type.String(), Type.String(), {
      description: 'Send these with the PUT exactly as they are',
    }),
  },
  { $id: 'CreatedAttachment' },
)

export const Attachment = Type.Object(
  {
    id: Uuid,
    filename: Type.String(),
    content_type: Type.String(),
    size_bytes: Type.Integer(),
    status: Type.Union([Type.Literal('pending'), Type.Literal('complete'), Type.Literal('failed')]),
    created_at: Time,
    download_url: Type.Optional(Type.String({ description: 'Only when complete' })),
  },
  { $id: 'Attachment' },
)

export const attachmentSchemas = [CreatedAttachment, Attachment]

export function attachmentJson(row: AttachmentRow, link: LinkTo): Static<typeof Attachment> {
  const url = row.status === 'complete' ? link(row) : undefined
  return {
    id: row.id,
    filename: row.filename,
    content_type: row.content_type,
    size_bytes: row.size_bytes,
    status: row.status,
    created_at: iso(row.created_at),
    ...(url === undefined ? {} : { download_url: url }),
  }
}
