/**
 * Faults on demand: armed by a test, taken by the operations they are meant for, each a number of times. They live in memory
 * and belong to one partner. The program asks for them at a dozen named places, and only where the sandbox is the carrier.
 */
import { randomHex } from '../../ids.ts'

/** Where a fault strikes, and what its parameters mean. Shown by the reference. */
export const FAULTS = {
  error: 'The next call is refused with the contract code in `code`.',
  rate_limited: 'The next call is refused with 429 / 1007; `retry_after` seconds, default 1.',
  send_ack_lost: 'The next send is stored, and its connection is cut before the answer.',
  upload_forbidden: 'The next upload is refused with 403 AccessDenied.',
  upload_not_ready: 'After the next upload the attachment stays pending for `seconds`, default 5.',
  media_download_slow: 'The next download of media by URL waits `seconds` first, default 5.',
  media_download_failed: 'The next download of media by URL fails with 5002.',
  delivery_failed: 'The next message fails: message.failed with `code` 3007 or 4001, default 4001.',
  webhook_delayed: 'The next webhook is held back for `seconds`, default 5.',
  webhook_duplicated: 'The next webhook is delivered twice, with the same id.',
  webhook_reordered: 'The next webhook is held back until others have gone.',
  cdn_forbidden: 'The next download from the CDN answers 403.',
  cdn_not_found: 'The next download from the CDN answers 404.',
  cdn_slow: 'The next download from the CDN waits `seconds` first, default 5.',
} as const
export type FaultKind = keyof typeof FAULTS

/** What an operation says about itself; a fault with `match` strikes only where each of its entries agrees. */
export type About = { method?: string; path?: string; to?: string; attachment_id?: string; event_type?: string }

export type Fault = {
  readonly id: string
  readonly kind: FaultKind
  remaining: number
  readonly seconds?: number
  readonly code?: number
  readonly retry_after?: number
  readonly match?: About
}

export type NewFault = Omit<Fault, 'id' | 'remaining'> & { times: number }

const NONE: readonly Fault[] = []

export class Faults {
  readonly #armed = new Map<string, readonly Fault[]>()
  readonly #heldBack = new Map<string, { partnerId: string; until: number }>()

  arm(partnerId: string, { times, ...fault }: NewFault): Fault {
    const armed = { ...fault, id: randomHex(8), remaining: times }
    this.#armed.set(partnerId, [...this.list(partnerId), armed])
    return armed
  }

  list(partnerId: string): readonly Fault[] {
    return this.#armed.get(partnerId) ?? NONE
  }

  /** All of a partner's, or one. True when there was something to clear. */
  clear(partnerId: string, id?: string): boolean {
    const before = this.list(partnerId)
    const after = id === undefined ? [] : before.filter((fault) => fault.id !== id)
    this.#armed.set(partnerId, after)
    if (id === undefined) {
      for (const [attachmentId, held] of this.#heldBack) {
        if (held.partnerId === partnerId) this.#heldBack.delete(attachmentId)
      }
    }
    return after.length < before.length
  }

  /** The oldest fault of this kind that fits, used up by one. */
  take(kind: FaultKind, partnerId: string, about: About = {}): Fault | undefined {
    const armed = this.list(partnerId)
    if (armed.length === 0) return undefined
    const fault = armed.find((armed) => armed.kind === kind && fits(armed.match, about))
    if (!fault) return undefined
    fault.remaining--
    if (fault.remaining <= 0) this.clear(partnerId, fault.id)
    return fault
  }

  /** Makes a partner's attachment look pending until `until`, in ms of the sandbox's clock. */
  holdBack(partnerId: string, attachmentId: string, until: number): void {
    this.#heldBack.set(attachmentId, { partnerId, until })
  }

  isHeldBack(attachmentId: string, now: number): boolean {
    const held = this.#heldBack.get(attachmentId)
    if (!held || held.until > now) return held !== undefined
    this.#heldBack.delete(attachmentId)
    return false
  }
}

/** `path` agrees by its beginning, everything else letter for letter. */
function fits(match: About | undefined, about: About): boolean {
  if (!match) return true
  const { path, ...rest } = match
  if (path !== undefined && !about.path?.startsWith(path)) return false
  return Object.entries(rest).every(([name, value]) => about[name as keyof About] === value)
}
