/**
 * All calls to hosts that a user named go through here: media by URL (download) and webhooks (post).
 * Both dial checked addresses only (dial.ts), have one deadline for everything and hold a bounded part of an answer.
 */
import { performance } from 'node:perf_hooks'
import type { EgressAllow } from './address.ts'
import { startDeadline } from './deadline.ts'
import { checkUrl, type DialOptions, openAgent, send } from './dial.ts'
import { type Download, type DownloadOptions, download } from './download.ts'
import { RemoteError, toRemoteError } from './error.ts'

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

export interface Remote {
  /** See download.ts: Failures `bad_parameter`, `file_too_large`, `download_failed`. */
  download(url: string, options: DownloadOptions): Promise<Download>
  /**
   * POSTs once, follows nothing. Plain http only to what the allow list holds. Resolves with any status; throws RemoteError
   * when there is none, or the reason of an aborted `signal`.
   */
  post(url: string, options: PostOptions): Promise<PostResult>
  /** Breaks off what is under way. */
  [Symbol.asyncDispose](): Promise<void>
}

/** One per process: it holds the connection pools. `resolve` and `ca` are for tests. */
export function createRemote(o: { allow: EgressAllow; userAgent: string } & DialOptions): Remote {
  const agent = openAgent(o)
  return {
    download: (url, options) => download({ agent, allow: o.allow, userAgent: o.userAgent }, url, options),

    async post(url, options) {
      const started = performance.now()
      const deadline = startDeadline(options.timeoutMs, options.signal)
      try {
        const target = URL.parse(url)
        if (!target) throw new RemoteError('forbidden', 'it is not a valid URL')
        checkUrl(o.allow, target)
        const headers = { 'user-agent': o.userAgent, ...options.headers }
        const response = await send(agent, target, { method: 'POST', headers, body: options.body }, deadline)
        const ms = performance.now() - started
        await discard(response.body, options.maxResponseBytes)
        const retryAfter = response.headers['retry-after']
        return {
          status: response.statusCode,
          headers: typeof retryAfter === 'string' ? { 'retry-after': retryAfter } : {},
          ms,
        }
      } catch (error) {
        throw options.signal?.aborted ? options.signal.reason : toRemoteError(error)
      } finally {
        deadline.cancel()
      }
    },

    [Symbol.asyncDispose]: () => agent.destroy(),
  }
}

/** Reads at most `limit` bytes. How the body ends is of no interest once the status is known. */
async function discard(body: AsyncIterable<Buffer>, limit: number): Promise<void> {
  let received = 0
  try {
    for await (const chunk of body) {
      received += chunk.length
      if (received > limit) break
    }
  } catch {}
}
