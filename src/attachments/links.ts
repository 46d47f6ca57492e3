/**
 * Where a file is on the CDN. A permanent one has one address for ever; an ephemeral one has a signed address that lives 15
 * minutes, made anew whenever it is shown:
 *   /attachments/partners/{partner}/{id}/{filename}
 *   /ephemeral/partners/{partner}/{id}/{filename}?expires={unix seconds}&signature={hex}
 * The signature is HMAC-SHA256 over what the address says, with a key that is derived from that of the upload URLs.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { App } from '../app.ts'
import type { SigningKey } from '../sigv4.ts'
import { type AttachmentRow, isVanished } from './rows.ts'

export const CDN_PATH = '/attachments/partners'
export const EPHEMERAL_PATH = '/ephemeral/partners'
const LINK_SECONDS = 15 * 60

export type Located = Pick<AttachmentRow, 'id' | 'partner_id' | 'filename'>
export type Linked = Pick<AttachmentRow, 'id' | 'partner_id' | 'filename' | 'vanishes_at'>

/** The address to show for a file now; undefined for one that has vanished. */
export type LinkTo = (file: Linked) => string | undefined

type Linker = Pick<App, 'urls' | 'clock' | 'signingKey'>

export function linkTo(app: Linker): LinkTo {
  const now = app.clock.now()
  return (file) => (isVanished(file, now) ? undefined : addressOf(app, file))
}

/** As `linkTo`, for a file that is known to be there. */
export function addressOf({ urls, clock, signingKey }: Linker, file: Linked): string {
  const path = `${file.partner_id}/${file.id}/${encodeSegment(file.filename)}`
  if (file.vanishes_at === null) return `${urls.cdn}${CDN_PATH}/${path}`
  const expires = Math.floor(clock.now() / 1000) + LINK_SECONDS
  const signature = sign(signingKey, file, String(expires)).toString('hex')
  return `${urls.cdn}${EPHEMERAL_PATH}/${path}?expires=${expires}&signature=${signature}`
}

export type LinkQuery = { expires?: unknown; signature?: unknown }

/** Whether this address was made here and has not expired. The signature is compared in constant time, and first. */
export function checkLink(
  { clock, signingKey }: Pick<App, 'clock' | 'signingKey'>,
  file: Located,
  { expires, signature }: LinkQuery,
): 'valid' | 'expired' | 'forged' {
  if (typeof expires !== 'string' || typeof signature !== 'string') return 'forged'
  if (!/^\d{1,12}$/.test(expires) || !/^[0-9a-f]{64}$/.test(signature)) return 'forged'
  if (!timingSafeEqual(Buffer.from(signature, 'hex'), sign(signingKey, file, expires))) return 'forged'
  return Number(expires) * 1000 > clock.now() ? 'valid' : 'expired'
}

const derivedKeys = new WeakMap<SigningKey, Buffer>()

/** No field can hold a line break, so different addresses never sign the same text. */
function sign(signingKey: SigningKey, { partner_id, id, filename }: Located, expires: string): Buffer {
  let key = derivedKeys.get(signingKey)
  if (!key) {
    key = createHmac('sha256', signingKey.secretAccessKey).update('satchel ephemeral links 1').digest()
    derivedKeys.set(signingKey, key)
  }
  return createHmac('sha256', key).update(`${partner_id}\n${id}\n${filename}\n${expires}`).digest()
}

/**
 * What a URL on our own CDN names; undefined when it is not on our CDN. A URL that is, but names nothing we would make,
 * gives an id that no attachment has. Signatures are not looked at: whoever asks has to be the owner anyway.
 */
export function parseDownloadUrl(url: string, cdnUrl: string): (Located & { ephemeral: boolean }) | undefined {
  const parsed = URL.parse(url)
  const base = new URL(`${cdnUrl}/`)
  if (parsed?.origin !== base.origin) return undefined
  const nothing = { partner_id: '', id: '', filename: '', ephemeral: false }
  const root = base.pathname.slice(0, -1)
  const path = [CDN_PATH, EPHEMERAL_PATH].find((known) => parsed.pathname.startsWith(`${root}${known}/`))
  if (path === undefined) return nothing
  const [partner_id = '', id = '', name = '', ...rest] = parsed.pathname.slice(root.length + path.length + 1).split('/')
  if (rest.length > 0) return nothing
  try {
    return { partner_id, id, filename: decodeURIComponent(name), ephemeral: path === EPHEMERAL_PATH }
  } catch {
    return nothing
  }
}

/** RFC 3986 unreserved characters stay, everything else is percent-encoded. */
function encodeSegment(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}
