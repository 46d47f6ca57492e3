/** The way to people's phones. Satchel hands over what it accepted, and is told what became of it. */

export type OutboundPart =
  | { type: 'text'; text: string }
  | { type: 'link'; url: string }
  | { type: 'media'; url: string; content_type: string; filename: string; size_bytes: number }

export type Outbound = { id: string; partnerId: string; from: string; to: string[]; parts: OutboundPart[] }

/** `at` in ms since 1970. `carrierRef` is what `send` answered. */
export type CarrierEvent =
  | { type: 'sent' | 'delivered' | 'read'; carrierRef: string; at: number }
  | { type: 'failed'; carrierRef: string; at: number; code: FailureCode; reason?: string }

/** What `message.failed` may carry (contract 5.6): given up, failed, or a type that the recipient cannot take. */
export type FailureCode = 3007 | 4001 | 4005

export interface Carrier {
  /** Called again with the same `id` after a crash: sending twice is the carrier's to prevent. */
  send(message: Outbound, signal: AbortSignal): Promise<{ carrierRef: string }>
}
