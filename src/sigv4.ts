/**
 * AWS Signature Version 4 in the query of a URL ("presigned"), body not signed (UNSIGNED-PAYLOAD).
 * For our own upload URLs and for objects of a bucket. Pure: no clock, no I/O; the only state is a cache of derived keys.
 * Protocol: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
 *
 * Both sides sign the canonical form of path and query, so a proxy that re-spells `%28` as `(` breaks nothing.
 * In a query `+` means a blank, as URLSearchParams writes and S3 reads it.
 */
import { createHmac, createSecretKey, hash, type KeyObject, timingSafeEqual } from 'node:crypto'

/** Keep one object per credential and pass the same one each time: derived keys are cached per object. */
export type SigningKey = {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly region: string
  /** 's3' when absent. */
  readonly service?: 's3'
}

export type PresignFault = 'missing' | 'malformed' | 'wrong_key' | 'signature' | 'expired' | 'not_yet_valid'

export type Verified =
  | { ok: true; expiresAt: number; signedHeaders: string[] }
  /** `detail` is one sentence for the caller; it names parameters and headers, never their expected values. */
  | { ok: false; reason: PresignFault; detail: string }

const ALGORITHM = 'AWS4-HMAC-SHA256'
const LONGEST_SECONDS = 7 * 24 * 3600
const SKEW_MS = 15 * 60 * 1000

/**
 * The URL that lets its bearer send `method` for `expiresSeconds` (1 to 604800) from `now` (ms, cut to whole seconds:
 * it ends at `floor(now / 1000) * 1000 + expiresSeconds * 1000`). `headers` are signed in addition to `host` and must be
 * sent as given. Query parameters of `url` are kept and signed. Byte for byte what the AWS SDK makes of the same request.
 * Throws RangeError or TypeError on a span, URL or text no request could carry: mistakes of our own.
 */
export function presign(
  key: SigningKey,
  o: { method: string; url: URL | string; headers: Record<string, string>; now: number; expiresSeconds: number },
): string {
  if (!Number.isInteger(o.expiresSeconds) || o.expiresSeconds < 1 || o.expiresSeconds > LONGEST_SECONDS)
    throw new RangeError(`expiresSeconds must be a whole number from 1 to ${LONGEST_SECONDS}`)
  const { scheme, host, path: rawPath, query: rawQuery } = splitUrl(o.url)
  const path = canonicalPath(rawPath)
  const headers: Header[] = [['host', host]]
  for (const name in o.headers) headers.push([name.toLowerCase(), o.headers[name] ?? ''])
  headers.sort(byName)
  const names = headers.map(([name]) => name)
  const date = amzDate(o.now)
  const scope = [date.slice(0, 8), key.region, key.service ?? 's3', 'aws4_request']
  const credential = `${encode(key.accessKeyId)}%2F${scope.join('%2F')}`
  let before = `X-Amz-Algorithm=${ALGORITHM}&X-Amz-Credential=${credential}&X-Amz-Date=${date}&X-Amz-Expires=${o.expiresSeconds}`
  let after = `X-Amz-SignedHeaders=${names.join('%3B')}`
  if (rawQuery) {
    const query = parseQuery(rawQuery)
    if (query.some(([name]) => RESERVED.has(name))) throw new TypeError('the URL is signed already')
    const all = [...query, ...parseQuery(`${before}&${after}`)].sort(byName)
    const at = all.findIndex(([name]) => name === 'X-Amz-SignedHeaders')
    before = join(all.slice(0, at))
    after = join(all.slice(at))
  }
  const request = canonicalRequest(o.method, path, `${before}&${after}`, headers, names.join(';'))
  return `${scheme}://${host}${path}?${before}&X-Amz-Signature=${sign(key, date, scope.join('/'), request)}&${after}`
}

/**
 * Checks a request against `key`. `path` is the request target as received, query included; `headers` are the values to
 * verify with, under lower-case names (`host` too). A header that is compared more loosely than byte by byte is replaced by
 * its signed spelling before. `mustSign` names headers that the signature has to cover besides `host`.
 * `expiresAt` is ms since 1970; a URL is good up to and including that instant. Dates up to 15 minutes ahead are accepted
 * (as S3 does). Time is looked at after the signature, so only a bearer of a true URL learns that it is over.
 */
export function verifyPresigned(
  key: SigningKey,
  o: {
    method: string
    path: string
    headers: Readonly<Record<string, string | string[] | undefined>>
    now: number
    mustSign?: readonly string[]
  },
): Verified {
  const mark = o.path.indexOf('?')
  if (mark < 0) return refuse('missing', 'The request has no signature in its query')
  let path: string
  let query: Pair[]
  try {
    path = canonicalPath(o.path.slice(0, mark))
    query = parseQuery(o.path.slice(mark + 1)).sort(byName)
  } catch {
    return refuse('malformed', 'The request target is not correctly percent-encoded')
  }
  const claims = new Map(query)
  if (claims.size !== query.length) return refuse('malformed', 'A query parameter occurs twice')
  for (const name of RESERVED) if (!claims.has(name)) return refuse('missing', `The query parameter ${name} is missing`)
  const claim = (name: string) => decodeURIComponent(claims.get(name) ?? '')

  if (claim('X-Amz-Algorithm') !== ALGORITHM) return refuse('malformed', `X-Amz-Algorithm must be ${ALGORITHM}`)
  const date = claim('X-Amz-Date')
  const startsAt = parseAmzDate(date)
  if (startsAt === undefined) return refuse('malformed', 'X-Amz-Date must have the form YYYYMMDDTHHMMSSZ')
  const seconds = claim('X-Amz-Expires')
  if (!/^[1-9]\d{0,5}$/.test(seconds) || Number(seconds) > LONGEST_SECONDS)
    return refuse('malformed', `X-Amz-Expires must be a whole number of seconds from 1 to ${LONGEST_SECONDS}`)
  const [id, day, region, service, end, ...rest] = claim('X-Amz-Credential').split('/')
  if (end !== 'aws4_request' || rest.length > 0)
    return refuse('malformed', 'X-Amz-Credential is not a credential scope')
  if (day !== date.slice(0, 8)) return refuse('malformed', 'X-Amz-Credential and X-Amz-Date name different days')
  if (id !== key.accessKeyId) return refuse('wrong_key', 'X-Amz-Credential names an unknown access key')
  if (region !== key.region || service !== (key.service ?? 's3'))
    return refuse('wrong_key', 'X-Amz-Credential names another region or service')

  const signedHeaders = claim('X-Amz-SignedHeaders')
  const names = signedHeaders.split(';')
  if (!names.every((name, i) => /^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name) && (i === 0 || (names[i - 1] ?? '') < name)))
    return refuse('malformed', 'X-Amz-SignedHeaders must be lower-case header names in order')
  for (const name of ['host', ...(o.mustSign ?? [])])
    if (!names.includes(name)) return refuse('malformed', `The header ${name} must be signed`)
  const headers: Header[] = []
  for (const name of names) {
    const value = Object.hasOwn(o.headers, name) ? o.headers[name] : undefined
    if (value === undefined) return refuse('signature', `The signed header ${name} is missing`)
    headers.push([name, typeof value === 'string' ? value : value.join(',')])
  }

  const given = claim('X-Amz-Signature')
  const unsigned = join(query.filter(([name]) => name !== 'X-Amz-Signature'))
  const scope = `${day}/${region}/${service}/aws4_request`
  const expected = sign(key, date, scope, canonicalRequest(o.method, path, unsigned, headers, signedHeaders))
  if (!/^[0-9a-f]{64}$/.test(given) || !timingSafeEqual(Buffer.from(given), Buffer.from(expected)))
    return refuse('signature', `The signature does not match method, path, query and the headers ${names.join(', ')}`)
  if (startsAt > o.now + SKEW_MS) return refuse('not_yet_valid', 'Request is not valid yet')
  const expiresAt = startsAt + Number(seconds) * 1000
  if (o.now > expiresAt) return refuse('expired', 'Request has expired')
  return { ok: true, expiresAt, signedHeaders: names }
}

const RESERVED: ReadonlySet<string> = new Set([
  'X-Amz-Algorithm',
  'X-Amz-Credential',
  'X-Amz-Date',
  'X-Amz-Expires',
  'X-Amz-SignedHeaders',
  'X-Amz-Signature',
])

/** Name and value, both percent-encoded. */
type Pair = [name: string, value: string]
type Header = [name: string, value: string]

const refuse = (reason: PresignFault, detail: string): Verified => ({ ok: false, reason, detail })
const join = (query: Pair[]) => query.map(([name, value]) => `${name}=${value}`).join('&')
const byName = (a: Pair, b: Pair) => compare(a[0], b[0]) || compare(a[1], b[1])
const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

function canonicalRequest(method: string, path: string, query: string, headers: Header[], signedHeaders: string) {
  let lines = ''
  for (const [name, value] of headers) lines += `${name}:${canonicalValue(value)}\n`
  return `${method}\n${path}\n${query}\n${lines}\n${signedHeaders}\nUNSIGNED-PAYLOAD`
}

function sign(key: SigningKey, date: string, scope: string, request: string): string {
  const text = `${ALGORITHM}\n${date}\n${scope}\n${hash('sha256', request)}`
  return createHmac('sha256', derivedKey(key, date.slice(0, 8)))
    .update(text)
    .digest('hex')
}

/**
 * HMAC with a KeyObject costs 2 µs, with a Buffer 15, and deriving the key 70: hence the cache. The day may come from a
 * stranger's URL, so it holds few days and drops the oldest.
 */
const derivedKeys = new WeakMap<SigningKey, Map<string, KeyObject>>()
const MOST_DAYS = 8

function derivedKey(key: SigningKey, day: string): KeyObject {
  const days = derivedKeys.get(key) ?? new Map<string, KeyObject>()
  let derived = days.get(day)
  if (!derived) {
    const steps = [day, key.region, key.service ?? 's3', 'aws4_request']
    const start: Buffer = Buffer.from(`AWS4${key.secretAccessKey}`)
    derived = createSecretKey(steps.reduce((secret, step) => createHmac('sha256', secret).update(step).digest(), start))
    for (const oldest of days.keys()) if (days.size >= MOST_DAYS) days.delete(oldest)
    derivedKeys.set(key, days.set(day, derived))
  }
  return derived
}

/** RFC 3986 with everything but the unreserved characters encoded. Throws URIError on a lone surrogate. */
function encode(text: string): string {
  if (/^[\w.~-]*$/.test(text)) return text
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
}

/** One spelling for all spellings of the same text. Throws URIError on a stray `%` or bytes that are not UTF-8. */
const respell = (text: string) => (/^[\w.~-]*$/.test(text) ? text : encode(decodeURIComponent(text)))

function canonicalPath(path: string): string {
  if (!path.startsWith('/')) throw new TypeError('a path begins with a slash')
  return /^[\w.~/-]*$/.test(path) ? path : path.split('/').map(respell).join('/')
}

function parseQuery(query: string): Pair[] {
  const pairs: Pair[] = []
  for (const part of query.split('&')) {
    if (part === '') continue
    const text = part.includes('+') ? part.replaceAll('+', '%20') : part
    const equals = text.indexOf('=')
    if (equals < 0) pairs.push([respell(text), ''])
    else pairs.push([respell(text.slice(0, equals)), respell(text.slice(equals + 1))])
  }
  return pairs
}

function canonicalValue(value: string): string {
  return /^[^\s]*$/.test(value)
    ? value
    : value
        .replace(/[\r\n]/g, ' ')
        .replace(/[ \t]+/g, ' ')
        .replace(/^ | $/g, '')
}

/** Taken apart by hand, as `new URL` would resolve `.` and `..`, which are ordinary names in a bucket. */
function splitUrl(url: URL | string) {
  const parts = /^(https?):\/\/([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d+)?(\/[^?#]*)?(?:\?([^#]*))?$/i.exec(
    typeof url === 'string' ? url : url.href,
  )
  if (!parts?.[1] || !parts[2]) throw new TypeError('not an http or https URL without user and fragment')
  const scheme = parts[1].toLowerCase()
  const port = parts[3] === (scheme === 'https' ? ':443' : ':80') ? '' : (parts[3] ?? '')
  return { scheme, host: parts[2].toLowerCase() + port, path: parts[4] ?? '/', query: parts[5] ?? '' }
}

function amzDate(ms: number): string {
  const iso = new Date(ms).toISOString()
  return `${iso.slice(0, 4)}${iso.slice(5, 7)}${iso.slice(8, 13)}${iso.slice(14, 16)}${iso.slice(17, 19)}Z`
}

function parseAmzDate(text: string): number | undefined {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text)?.slice(1).map(Number)
  if (!parts) return undefined
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts
  if (hour > 23 || minute > 59 || second > 59) return undefined
  const ms = Date.UTC(year, month - 1, day, hour, minute, second)
  const date = new Date(ms)
  // A day that its month does not have is one of another month; years below 100 are taken for those of the 20th century.
  return date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day
    ? ms
    : undefined
}
