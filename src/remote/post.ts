/**
 * One POST whose answer is its status: the body is counted and thrown away as it comes. By undici's dispatcher, since a
 * stream, a signal and their listeners for each would cost more than the request.
 */
import type { Agent, Dispatcher } from 'undici'
import { tookTooLong } from './deadline.ts'

export type PostOptions = {
  headers: Record<string, string>
  body: Buffer
  /** From the call to the status; the answer's body gets what is left of it. */
  timeoutMs: number
  /** How much of the answer is read, and thrown away, so that the connection can be used again. */
  maxResponseBytes: number
  signal?: AbortSignal
}

export type PostResult = {
  /** Whatever the host said, 3xx included. */
  status: number
  headers: { 'retry-after'?: string }
  /** From the call to the status. */
  ms: number
}

/**
 * To a URL that passed checkUrl. How the body ends is of no interest once the status is known. Rejects with whatever Node or
 * undici threw, with RemoteError `timeout`, or with the signal's reason.
 */
export function post(agent: Agent, url: URL, o: PostOptions): Promise<PostResult> {
  return new Promise((resolve, reject) => {
    const started = performance.now()
    let request: Dispatcher.DispatchController | undefined
    let result: PostResult | undefined
    let brokenOff: Error | undefined
    let received = 0

    const timer = setTimeout(() => breakOff(tookTooLong(o.timeoutMs)), o.timeoutMs)
    const forward = () => breakOff(o.signal?.reason)
    o.signal?.addEventListener('abort', forward)

    function end(error?: Error): void {
      clearTimeout(timer)
      o.signal?.removeEventListener('abort', forward)
      if (result) resolve(result)
      else reject(error)
    }

    /** undici hears of it once the request is on a socket, the caller at once. */
    function breakOff(reason: Error): void {
      brokenOff = reason
      request?.abort(reason)
      end(reason)
    }

    const { origin, pathname, search } = url
    const { headers, body } = o
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart(controller) {
        request = controller
        if (brokenOff) controller.abort(brokenOff)
      },
      onResponseStart(_controller, status, answered) {
        if (status < 200) return
        const retryAfter = answered['retry-after']
        result = {
          status,
          headers: typeof retryAfter === 'string' ? { 'retry-after': retryAfter } : {},
          ms: performance.now() - started,
        }
      },
      onResponseData(_controller, chunk) {
        received += chunk.length
        if (received > o.maxResponseBytes) breakOff(new Error('the answer is long'))
      },
      onResponseEnd: () => end(),
      onResponseError: (_controller, error) => end(error),
    }
    if (o.signal?.aborted) forward()
    else agent.dispatch({ origin, path: pathname + search, method: 'POST', headers, body }, handler)
  })
}
