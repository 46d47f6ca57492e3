/**
 * One end for a whole call: name lookup, connecting, handshake, headers and body.
 * undici obeys a signal only once a request is on a socket, so callers race with `ended` until they have an answer.
 */
import { RemoteError } from './error.ts'

export type Deadline = {
  /** Aborts with a RemoteError of kind `timeout`, or with the reason of the caller's signal. */
  readonly signal: AbortSignal
  /** Rejects when the signal aborts; never resolves. Safe to leave alone. */
  readonly ended: Promise<never>
  /** Frees the timer and the caller's signal. May be called twice. */
  cancel(): void
}

export const tookTooLong = (timeoutMs: number): RemoteError =>
  new RemoteError('timeout', `it took longer than ${timeoutMs / 1000} s`)

/** Starts the clock at once. */
export function startDeadline(timeoutMs: number, outer?: AbortSignal): Deadline {
  const controller = new AbortController()
  const { signal } = controller
  const ended = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  ended.catch(() => {})
  const forward = () => controller.abort(outer?.reason)
  const timer = setTimeout(() => controller.abort(tookTooLong(timeoutMs)), timeoutMs)
  const cancel = () => {
    clearTimeout(timer)
    outer?.removeEventListener('abort', forward)
  }
  signal.addEventListener('abort', cancel, { once: true })
  if (outer?.aborted) forward()
  else outer?.addEventListener('abort', forward, { once: true })
  return { signal, ended, cancel }
}
