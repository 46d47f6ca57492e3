/**
 * Pure: what an answer to a delivery means, and when to try again (contract 5.3).
 * Eleven tries at most: the first and 10 retries after 2 s, 4 s, 8 s ... up to 10 minutes, each 20 % shorter or longer by
 * chance. That is about 26 minutes in all, unless the receiver asks for more time with Retry-After.
 */
import type { RemoteErrorKind } from '../remote/error.ts'

const RETRIES = 10
const FIRST_PAUSE_MS = 2000
const LONGEST_PAUSE_MS = 600_000
const JITTER = 0.2
const LONGEST_RETRY_AFTER_MS = 3_600_000

export type FailedTry = {
  /** The one that just failed; 1 is the first. */
  attempt: number
  /** ms since 1970, as is the answer. */
  now: number
  /** The header as it came: seconds or an HTTP date. What is neither is ignored. */
  retryAfter?: string | undefined
  /** From 0 to 1, as Math.random. */
  random: () => number
}

/** Retry-After can put the next try off, never bring it forward, and by an hour at most. */
export function nextAttemptAt(o: FailedTry): number | 'never' {
  if (o.attempt > RETRIES) return 'never'
  const pause = Math.min(FIRST_PAUSE_MS * 2 ** (o.attempt - 1), LONGEST_PAUSE_MS)
  const jittered = Math.min(pause * (1 + JITTER * (2 * o.random() - 1)), LONGEST_PAUSE_MS)
  const asked = Math.min(readRetryAfter(o.retryAfter ?? '', o.now), LONGEST_RETRY_AFTER_MS)
  return o.now + Math.round(Math.max(jittered, asked))
}

/** ms from now; 0 when nothing sensible is asked for. The three forms of a date: RFC 9110, section 5.6.7. */
function readRetryAfter(text: string, now: number): number {
  const trimmed = text.trim()
  if (/^\d+$/.test(trimmed)) return Number(trimmed) * 1000
  if (!/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? .*\d\d:\d\d:\d\d/.test(trimmed)) return 0
  const date = Date.parse(trimmed.endsWith('GMT') ? trimmed : `${trimmed} GMT`)
  return Number.isNaN(date) ? 0 : Math.max(0, date - now)
}

/** `retry`: ask nextAttemptAt. `gone`: nothing more should be sent to this subscription. */
export type Outcome = 'delivered' | 'retry' | 'failed' | 'gone'

/**
 * Of the status the receiver answered with, or of why there was none. Name resolution is not tried again: an address that
 * does not exist is a mistake in the subscription. 408 counts as a time-out: it says that the receiver did not wait for the
 * whole request and that the same one may be sent again (RFC 9110, section 15.5.9).
 */
export function outcomeOf(result: number | RemoteErrorKind): Outcome {
  if (typeof result === 'string') return result === 'dns' || result === 'forbidden' ? 'failed' : 'retry'
  if (result >= 200 && result <= 299) return 'delivered'
  if (result === 410) return 'gone'
  return result >= 500 || result === 429 || result === 408 ? 'retry' : 'failed'
}
