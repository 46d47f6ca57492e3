/**
 * How outgoing connections come about: an undici agent that dials only addresses it has checked.
 * Names are checked inside the connect-time lookup, so the address checked is the address dialled and rebinding a name between
 * the two is impossible. Node calls no lookup for IP literals: those are checked by `checkUrl`, before every request.
 * Each origin (scheme, host, port) has a pool of its own, so a pooled connection never serves a host it was not checked for.
 */
import { type LookupAddress, type LookupOptions, lookup as systemLookup } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { Agent, type Dispatcher, Pool, request } from 'undici'
import { bareHost, type EgressAllow, isAllowed, isPublic } from './address.ts'
import type { Deadline } from './deadline.ts'
import { RemoteError } from './error.ts'

/** dns.lookup in the form that gives all addresses of a name; the seam for tests. */
export type Resolve = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void

export type DialOptions = {
  allow: EgressAllow
  resolve?: Resolve
  /** Trusted roots as PEM instead of Node's own and NODE_EXTRA_CA_CERTS. */
  ca?: string
}

const CONNECT_TIMEOUT_MS = 10_000
const MAX_HEADER_BYTES = 16 * 1024
const CONNECTIONS_PER_ORIGIN = 32
const IDLE_MS = 4_000

/** The caller destroys the agent. HTTP/1.1 only; no cookies, no proxies, no redirects, nothing inflated. */
export function openAgent(o: DialOptions): Agent {
  const options: Pool.Options = {
    connections: CONNECTIONS_PER_ORIGIN,
    keepAliveTimeout: IDLE_MS,
    keepAliveMaxTimeout: 30_000,
    maxHeaderSize: MAX_HEADER_BYTES,
    // The deadline of the whole call takes their place.
    headersTimeout: 0,
    bodyTimeout: 0,
  }
  const connect = { rejectUnauthorized: true, timeout: CONNECT_TIMEOUT_MS, ...(o.ca === undefined ? {} : { ca: o.ca }) }
  return new Agent({
    factory: (origin) => new Pool(origin, { ...options, connect: { ...connect, lookup: guard(o, new URL(origin)) } }),
  })
}

/**
 * Throws RemoteError `forbidden` for what no address can make right: another scheme than http and https, credentials in the
 * URL, and IP literals that may not be dialled. `new URL` has turned 0x7f.1, 2130706433 and their like into dotted form.
 */
export function checkUrl(allow: EgressAllow, url: URL): void {
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new RemoteError('forbidden', 'the scheme is not https')
  if (url.username !== '' || url.password !== '') throw new RemoteError('forbidden', 'the URL holds credentials')
  const host = bareHost(url.hostname)
  if (isIP(host) !== 0 && !mayDial(allow, url, host)) throw new RemoteError('forbidden')
}

/**
 * One request without redirects, to a URL that passed checkUrl. The caller consumes or destroys the body; errors of a
 * body nobody listens to are swallowed. Rejects with whatever Node or undici threw, or with the deadline's reason.
 */
export async function send(
  agent: Agent,
  url: URL,
  o: Pick<Dispatcher.RequestOptions, 'method' | 'headers' | 'body'>,
  deadline: Deadline,
): Promise<Dispatcher.ResponseData> {
  const answered = request(url, { ...o, dispatcher: agent, signal: deadline.signal })
  const response = await Promise.race([answered, deadline.ended])
  response.body.on('error', () => {})
  return response
}

/** Plain http is for listed destinations only; https reaches public addresses as well. */
function mayDial(allow: EgressAllow, url: URL, address: string): boolean {
  const port = Number(url.port || (url.protocol === 'https:' ? 443 : 80))
  return (url.protocol === 'https:' && isPublic(address)) || isAllowed(allow, { host: url.hostname, port, address })
}

function guard(o: DialOptions, origin: URL): LookupFunction {
  const resolve: Resolve = o.resolve ?? systemLookup
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, [])
      const open = addresses.filter(({ address }) => mayDial(o.allow, origin, address))
      const first = open[0]
      if (!first) return callback(new RemoteError(addresses.length > 0 ? 'forbidden' : 'dns'), [])
      if (options.all) callback(null, open)
      else callback(null, first.address, first.family)
    })
  }
}
