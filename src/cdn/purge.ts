/**
 * Tells whoever runs a CDN before us what it has to forget: one POST of {"urls": [...]} to an address of the operator's, by a
 * job that is tried again until the answer is 2xx. Credentials for it go into the address's query.
 */
import { bareHost, type EgressAllow } from '../remote/address.ts'
import { createRemote } from '../remote/request.ts'

const TIME_LIMIT_MS = 15_000
const ANSWER_LIMIT_BYTES = 64 * 1024

export type Purge = {
  /** Rejects unless it is known to have been taken. May tell the same twice. */
  (urls: readonly string[], signal: AbortSignal): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Naming an address is allowing it, private and plain http included, as with the gateway. */
export function openPurge(o: { url: string; allow: EgressAllow; userAgent: string }): Purge {
  const { hostname, port, protocol } = new URL(o.url)
  const target = { host: bareHost(hostname), port: Number(port || (protocol === 'https:' ? 443 : 80)) }
  const allow = { hosts: [...o.allow.hosts, target], networks: o.allow.networks }
  const remote = createRemote({ allow, userAgent: o.userAgent })

  async function purge(urls: readonly string[], signal: AbortSignal): Promise<void> {
    const { status } = await remote.post(o.url, {
      headers: { 'content-type': 'application/json' },
      body: Buffer.from(JSON.stringify({ urls })),
      timeoutMs: TIME_LIMIT_MS,
      maxResponseBytes: ANSWER_LIMIT_BYTES,
      signal,
    })
    if (status < 200 || status > 299) throw new Error(`the purge hook answered ${status}`)
  }
  return Object.assign(purge, { [Symbol.asyncDispose]: () => remote[Symbol.asyncDispose]() })
}
