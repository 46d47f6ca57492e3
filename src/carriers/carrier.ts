/** The way to people's phones. Satchel hands over what it accepted, and is told what became of it. */

export type OutboundPart =
  | { type: 'text'; text: string }
  | { type: 'link'; url: string }
  | { type: 'media'; url: string; content_type: string; filename: string; size_bytes: number }

export type Outbound = {
  id: string
  partnerId: string
  from: string
  to: string[]
  service: 'iMessage' | 'SMS' | 'RCS'
  parts: OutboundPart[]
}

/** `at` in ms since 1970. `carrierRef` is what `send` answered. */
export type CarrierEvent =
  | { type: 'sent' | 'delivered' | 'read'; carrierRef: string; at: number }
  | { type: 'failed'; carrierRef: string; at: number; code: FailureCode; reason?: string }

/** What `message.failed` may carry (contract 5.6): given up, failed, or a type that the recipient cannot take. */
export type FailureCode = 3007 | 4001 | 4005

/** The carrier will not take this message, now or later. What else a carrier throws is tried again. */
export class CarrierRefused extends Error {
  readonly code: FailureCode

  /** `message` goes to the sender, as the reason in `message.failed`. */
  constructor(code: FailureCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'CarrierRefused'
    this.code = code
  }
}

export interface Carrier {
  /**
   * Called again with the same `id` after a crash: sending twice is the carrier's to prevent. Rejects with CarrierRefused
   * when there is no point in trying again, and with the reason of an aborted `signal`.
   */
  send(message: Outbound, signal: AbortSignal): Promise<{ carrierRef: string }>
}
