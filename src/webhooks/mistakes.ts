/**
 * The known mistakes that keep the signature of a webhook from fitting, for verify.ts to try: what a wrong program would
 * have signed and with which key, how a header may be spelt, and what secret and body may have been before they were changed.
 */
import { decodedKey, SECRET_PREFIX, textKey } from './sign.ts'

export type Mistake =
  | 'missing_header'
  | 'unreadable_signature'
  | 'unreadable_timestamp'
  | 'timestamp_in_milliseconds'
  | 'stale_timestamp'
  | 'other_family'
  | 'key_not_decoded'
  | 'key_decoded'
  | 'prefix_decoded'
  | 'prefix_left_out'
  | 'wrong_signed_text'
  | 'wrong_spelling'
  | 'secret_mangled'
  | 'body_changed'
  | 'empty_body'
  | 'wrong_secret'

/** `advice` is for people and names no secret. */
export type Fault = { mistake: Mistake; advice: string }

/** One way to make a signature, of `head` and the body. The right one has no fault. */
type Recipe = { key: Buffer; head: string; fault?: Fault }
type Digest = { bytes: Buffer; fault?: Fault }

export type Family = {
  /** Header names in lower case; all are needed. */
  signatureName: string
  timestampName: string
  otherNames: readonly string[]
  readSignatures: (header: string) => Digest[]
  recipes: (secret: { clean: string; given: string }, id: string, timestamp: string) => Recipe[]
}

export const fault = (mistake: Mistake, advice: string): Fault => ({ mistake, advice })

const STANDARD_RULE =
  'The standard signature is made of "{webhook-id}.{webhook-timestamp}.{body}" with the base64-decoded part of the secret behind whsec_ as the key.'
const LEGACY_RULE =
  'The legacy signature is made of "{X-Webhook-Timestamp}.{body}" with the whole text of the secret, whsec_ included, as the key.'

export const STANDARD: Family = {
  signatureName: 'webhook-signature',
  timestampName: 'webhook-timestamp',
  otherNames: ['webhook-id'],

  /** `v1,` and base64, several parted by blanks. What belongs to no version we know is skipped, as the standard asks. */
  readSignatures: (header) =>
    header.split(/\s+/).flatMap((token): Digest[] => {
      if (/^v1,[A-Za-z0-9+/]{43}=$/.test(token)) return [{ bytes: Buffer.from(token.slice(3), 'base64') }]
      const bytes = readAnySpelling(token)
      const advice = 'webhook-signature must be "v1," and standard base64; this one is spelt otherwise.'
      return bytes ? [{ bytes, fault: fault('wrong_spelling', advice) }] : []
    }),

  recipes({ clean }, id, timestamp) {
    const [decoded, text, bare] = [decodedKey(clean), textKey(clean), textKey(clean.slice(SECRET_PREFIX.length))]
    const head = `${id}.${timestamp}.`
    const say = (mistake: Mistake, what: string) => fault(mistake, `${what} ${STANDARD_RULE}`)
    const notDecoded = say('key_not_decoded', 'The key was the text of the secret.')
    const incomplete = say('wrong_signed_text', 'Not all of the text was signed.')
    const legacy = say('other_family', 'This is the legacy signature, which belongs to X-Webhook-Signature.')
    const withPrefix = say('prefix_decoded', 'The secret was base64-decoded together with its whsec_.')
    return [
      { key: decoded, head },
      { key: text, head: `${timestamp}.`, fault: legacy },
      { key: text, head, fault: notDecoded },
      { key: bare, head, fault: notDecoded },
      { key: Buffer.from(clean, 'base64'), head, fault: withPrefix },
      { key: decoded, head: `${timestamp}.`, fault: incomplete },
      { key: decoded, head: '', fault: incomplete },
    ]
  },
}

export const LEGACY: Family = {
  signatureName: 'x-webhook-signature',
  timestampName: 'x-webhook-timestamp',
  otherNames: [],

  readSignatures(header) {
    if (/^[0-9a-f]{64}$/.test(header)) return [{ bytes: Buffer.from(header, 'hex') }]
    const advice = 'X-Webhook-Signature must be 64 lower-case hex digits and nothing else; this one is spelt otherwise.'
    return header.split(/\s+/).flatMap((token): Digest[] => {
      const bytes = readAnySpelling(token)
      return bytes ? [{ bytes, fault: fault('wrong_spelling', advice) }] : []
    })
  },

  recipes({ clean, given }, id, timestamp) {
    const [decoded, text, bare] = [decodedKey(clean), textKey(clean), textKey(clean.slice(SECRET_PREFIX.length))]
    const head = `${timestamp}.`
    const say = (mistake: Mistake, what: string) => fault(mistake, `${what} ${LEGACY_RULE}`)
    const otherText = say('wrong_signed_text', 'Another text was signed.')
    const standard = say('other_family', 'This is the standard signature, which belongs to webhook-signature.')
    return [
      { key: text, head },
      { key: textKey(given), head },
      { key: decoded, head: `${id}.${timestamp}.`, fault: standard },
      { key: decoded, head, fault: say('key_decoded', 'The key was the decoded secret.') },
      { key: bare, head, fault: say('prefix_left_out', 'The key was the secret without whsec_.') },
      { key: text, head: `${id}.${timestamp}.`, fault: otherText },
      { key: text, head: '', fault: otherText },
    ]
  },
}

/** 32 bytes in hex, base64 or base64url, behind any `v1,`, `v1=` or `sha256=`. */
function readAnySpelling(token: string): Buffer | undefined {
  const text = token.replace(/^(v1|sha256)[,=:]/i, '')
  if (/^[0-9a-f]{64}$/i.test(text)) return Buffer.from(text, 'hex')
  return /^[\w+/-]{43}=?$/.test(text) ? Buffer.from(text, 'base64') : undefined
}

/** The secret as it was most likely shown: `whsec_` and padded standard base64. */
export function cleanSecret(secret: string): string {
  const base64 = stripped(secret).bare.replace(/=+$/, '').replaceAll('-', '+').replaceAll('_', '/')
  return SECRET_PREFIX + base64.padEnd(Math.ceil(base64.length / 4) * 4, '=')
}

/** Without whsec_ the standard scheme still works, the legacy one does not. */
export function describeMangling(family: Family, secret: string): Fault | undefined {
  const { bare, hasPrefix } = stripped(secret)
  const found: string[] = []
  if (/\s/.test(secret)) found.push('holds blanks or line ends')
  if (/["'`]/.test(secret)) found.push('is in quotes')
  if (/[-_]/.test(bare)) found.push('is base64url, with - and _ where + and / belong')
  if (SECRET_PREFIX.length + bare.length < cleanSecret(secret).length) found.push('lacks = at its end')
  if (family === LEGACY && !hasPrefix) found.push('lacks whsec_ at its start')
  if (found.length === 0) return undefined
  const advice = `The secret given here ${found.join(' and ')}. Keep it just as it was shown when the subscription was made.`
  return fault('secret_mangled', advice)
}

function stripped(secret: string): { bare: string; hasPrefix: boolean } {
  const text = secret.replace(/[\s"'`]/g, '')
  const hasPrefix = text.startsWith(SECRET_PREFIX)
  return { bare: hasPrefix ? text.slice(SECRET_PREFIX.length) : text, hasPrefix }
}

/** The body as it came and, behind it, what it may have been before something changed it. */
export function bodiesOf(body: Buffer): { bytes: Buffer; fault?: Fault }[] {
  const text = body.toString('utf8')
  const before: [string, Buffer | string | undefined][] = [
    ['The body has gained a line end.', text.replace(/[\r\n]+$/, '')],
    ['The line ends of the body became CRLF.', text.replaceAll('\r\n', '\n')],
    ['The body has gained a byte order mark.', text.replace(/^\uFEFF/, '')],
    ['The body was parsed and written anew, with other blanks or escapes.', compact(text)],
    ['The body was read as Latin-1 and written as UTF-8.', Buffer.from(text, 'latin1')],
  ]
  const changed = before.flatMap(([what, original = body]) => {
    const bytes = Buffer.from(original)
    const advice = `${what} Verify the bytes of the request before anything parses them (express.raw(), request.text(), request.get_data()).`
    return bytes.equals(body) ? [] : [{ bytes, fault: fault('body_changed', advice) }]
  })
  return [{ bytes: body }, ...changed]
}

function compact(text: string): string | undefined {
  try {
    return JSON.stringify(JSON.parse(text.replace(/^\uFEFF/, '')))
  } catch {
    return undefined
  }
}
