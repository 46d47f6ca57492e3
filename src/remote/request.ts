/**
 * All calls to hosts that a user named go through here: media by URL (download) and webhooks (post).
 * Both dial checked addresses only (dial.ts), have one deadline for everything and hold a bounded part of an answer.
 */
import type { EgressAllow } from './address.ts'
import { checkUrl, type DialOptions, openAgent } from './dial.ts'
import { type Download, type DownloadOptions, download } from './download.ts'
import { RemoteError, toRemoteError } from './error.ts'
import { type PostOptions, type PostResult, post } from './post.ts'

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
      try {
        const target = URL.parse(url)
        if (!target) throw new RemoteError('forbidden', 'it is not a valid URL')
        checkUrl(o.allow, target)
        return await post(agent, target, { ...options, headers: { 'user-agent': o.userAgent, ...options.headers } })
      } catch (error) {
        throw options.signal?.aborted ? options.signal.reason : toRemoteError(error)
      }
    },

    [Symbol.asyncDispose]: () => agent.destroy(),
  }
}
