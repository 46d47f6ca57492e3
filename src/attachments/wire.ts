/** Attachments as they go over the wire (contract 1.1 and 1.3), and where they are on the CDN (1.6). */
import { type Static, Type } from 'typebox'
import { iso, Time, Uuid } from '../http/schemas.ts'
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
    download_url: Type.String({ description: 'Permanent; 404 until the bytes are in' }),
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

export function attachmentJson(row: AttachmentRow, cdnUrl: string): Static<typeof Attachment> {
  return {
    id: row.id,
    filename: row.filename,
    content_type: row.content_type,
    size_bytes: row.size_bytes,
    status: row.status,
    created_at: iso(row.created_at),
    ...(row.status === 'complete' ? { download_url: downloadUrl(row, cdnUrl) } : {}),
  }
}

export const CDN_PATH = '/attachments/partners'

type Located = Pick<AttachmentRow, 'id' | 'partner_id' | 'filename'>

export function downloadUrl({ id, partner_id, filename }: Located, cdnUrl: string): string {
  return `${cdnUrl}${CDN_PATH}/${partner_id}/${id}/${encodeSegment(filename)}`
}

/** RFC 3986 unreserved characters stay, everything else is percent-encoded. */
function encodeSegment(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}

/**
 * What a URL on our own CDN names; undefined when it is not on our CDN. A URL that is, but names nothing we would make,
 * gives an id that no attachment has.
 */
export function parseDownloadUrl(url: string, cdnUrl: string): Located | undefined {
  const parsed = URL.parse(url)
  const base = new URL(`${cdnUrl}/`)
  if (parsed?.origin !== base.origin) return undefined
  const prefix = `${base.pathname.slice(0, -1)}${CDN_PATH}/`
  const [partner_id = '', id = '', name = '', ...rest] = parsed.pathname.startsWith(prefix)
    ? parsed.pathname.slice(prefix.length).split('/')
    : []
  const nothing = { partner_id: '', id: '', filename: '' }
  if (rest.length > 0) return nothing
  try {
    return { partner_id, id, filename: decodeURIComponent(name) }
  } catch {
    return nothing
  }
}
