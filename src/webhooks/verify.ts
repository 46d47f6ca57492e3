/**
 * Pure: says whether the signatures of a captured delivery fit and, if not, which mistake explains it. It tries the known
 * mistakes (mistakes.ts) with key, signed text, body, timestamp and spelling, and combinations of them; those that make the
 * signature fit with the fewest mistakes are the answer. When nothing fits it says just that.
 */
import { createHmac } from 'node:crypto'
import {
  bodiesOf,
  cleanSecret,
  describeMangling,
  type Family,
  type Fault,
  fault,
  LEGACY,
  STANDARD,
} from './mistakes.ts'

/** Faults lie in the order to mend them in. */
export type Verdict = { ok: true } | { ok: false; faults: readonly [Fault, ...Fault[]] }

export type Captured = {
  secret: string
  /** Names in any case. */
  headers: Record<string, string>
  body: Buffer
  /** When it was received, in ms since 1970. */
  now: number
}

const TOLERANCE_SECONDS = 300

/** Each family is judged by itself; that the other one fits only helps to explain. */
export function diagnose(o: Captured): { standard: Verdict; legacy: Verdict } {
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(o.headers)) headers[name.toLowerCase()] = value.trim()
  const captured = { ...o, headers }
  const standard = judge(STANDARD, captured)
  const legacy = judge(LEGACY, captured)
  return { standard: inTheLightOf(legacy, standard), legacy: inTheLightOf(standard, legacy) }
}

function judge(family: Family, o: Captured): Verdict {
  const { signatureName, timestampName } = family
  const missing = [signatureName, timestampName, ...family.otherNames].filter((name) => !o.headers[name])
  if (missing.length > 0) {
    const advice = `There is no ${missing.join(' and no ')}. Proxies and frameworks may drop or rename headers: log what arrives.`
    return { ok: false, faults: [fault('missing_header', advice)] }
  }
  const timestamp = o.headers[timestampName] ?? ''
  if (!/^\d{1,15}$/.test(timestamp)) {
    const advice = `${timestampName} is "${timestamp}"; it must be whole Unix seconds, such as ${Math.floor(o.now / 1000)}.`
    return { ok: false, faults: [fault('unreadable_timestamp', advice)] }
  }
  const faults = search(family, o, timestamp)
  const [first, ...rest] = faults ? [...faults, ...lateness(timestampName, timestamp, o.now)] : unexplained(family, o)
  return first ? { ok: false, faults: [first, ...rest] } : { ok: true }
}

/** The fewest faults with which a signature fits; undefined when none does. */
function search(family: Family, o: Captured, timestamp: string): Fault[] | undefined {
  const timestamps = [timestamp]
  if (isMilliseconds(timestamp)) timestamps.push(String(Math.floor(Number(timestamp) / 1000)))
  const secret = { clean: cleanSecret(o.secret), given: o.secret }
  const id = o.headers['webhook-id'] ?? ''
  const recipes = timestamps.flatMap((text) => family.recipes(secret, id, text))
  const mangled = describeMangling(family, o.secret)
  const bodies = bodiesOf(o.body)
  let best: Fault[] | undefined
  for (const digest of family.readSignatures(o.headers[family.signatureName] ?? '')) {
    for (const recipe of recipes) {
      for (const body of bodies) {
        const spelling = recipe.fault?.mistake === 'other_family' ? undefined : digest.fault
        const faults = [recipe.fault, spelling, body.fault, mangled].filter((found) => found !== undefined)
        if (best && best.length <= faults.length) continue
        const made = createHmac('sha256', recipe.key).update(recipe.head).update(body.bytes).digest()
        if (made.equals(digest.bytes)) best = faults
      }
    }
  }
  return best
}

/** Of a timestamp: in seconds it would lie beyond the year 5000. */
const isMilliseconds = (timestamp: string): boolean => Number(timestamp) > 100_000_000_000

function lateness(name: string, timestamp: string, now: number): Fault[] {
  if (isMilliseconds(timestamp)) {
    const advice = `${name} is in milliseconds; receivers expect whole seconds and refuse it as far in the future.`
    return [fault('timestamp_in_milliseconds', advice)]
  }
  const late = Math.round(now / 1000 - Number(timestamp))
  if (Math.abs(late) <= TOLERANCE_SECONDS) return []
  const advice = `The timestamp lies ${Math.abs(late)} s in the ${late > 0 ? 'past' : 'future'}; receivers refuse more than ${TOLERANCE_SECONDS} s either way. If it was fresh when it came, set the clock of the receiver (NTP) and verify before queueing. A stored delivery must be verified as of its own time.`
  return [fault('stale_timestamp', advice)]
}

function unexplained(family: Family, o: Captured): Fault[] {
  if (family.readSignatures(o.headers[family.signatureName] ?? '').length === 0) {
    const advice = `${family.signatureName} holds no HMAC-SHA256 of 32 bytes: it was cut off, masked or is something else.`
    return [fault('unreadable_signature', advice)]
  }
  if (o.body.length === 0) {
    const advice = 'The body is empty. Something read it before it was kept: take the bytes of the request first.'
    return [fault('empty_body', advice)]
  }
  const advice =
    'No known mistake explains this signature: it was made with another secret (each subscription has its own), or the body was changed in a way that cannot be undone, such as keys in another order.'
  const mangled = describeMangling(family, o.secret)
  return [fault('wrong_secret', advice), ...(mangled ? [mangled] : [])]
}

/** When the other family fits, if late, then the secret and the body are right after all. */
function inTheLightOf(other: Verdict, verdict: Verdict): Verdict {
  const fits = other.ok || other.faults.every(({ mistake }) => mistake === 'stale_timestamp')
  if (!fits || verdict.ok || verdict.faults[0].mistake !== 'wrong_secret') return verdict
  const advice =
    'The other signature fits, so secret and body are right: this one was made with another secret. While a secret is being rotated the legacy header is signed with the old one.'
  return { ok: false, faults: [fault('wrong_secret', advice)] }
}
