/**
 * Which IP addresses our own calls may reach. Pure; the callers apply it to the very address that is dialled.
 * A positive list: an address is dialled when it is globally routable, and refused when it is anything else or unknown.
 * Operators open single hosts or networks of their own with SATCHEL_EGRESS_ALLOW.
 */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

type Address = ipaddr.IPv4 | ipaddr.IPv6

/** What SATCHEL_EGRESS_ALLOW opens. Made by parseEgressAllow. */
export type EgressAllow = {
  /** `host` as `new URL` spells it, without brackets and final dot. */
  readonly hosts: readonly { readonly host: string; readonly port: number | '*' }[]
  readonly networks: readonly (readonly [network: Address, prefix: number])[]
}

/** `host` is the URL's hostname, brackets or not; `address` is the one dialled. */
export type Destination = { readonly host: string; readonly port: number; readonly address: string }

/** Globally routable by the IANA registries, and yet inside somebody's machine room. */
const NOT_PUBLIC: ReadonlySet<string> = new Set([
  // Azure's host agent, reachable from every virtual machine there.
  '168.63.129.16',
])

const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3')
const NAT64 = ipaddr.IPv6.parseCIDR('64:ff9b::/96')

/**
 * True for a globally routable unicast address in its usual spelling (what a resolver or `new URL` gives).
 * IPv4 inside IPv6 counts as the IPv4 address where networks translate it today: mapped (::ffff:0:0/96) and NAT64 with the
 * well-known prefix (RFC 6052), which is how an IPv6-only host reaches the IPv4 internet. The other embeddings (IPv4-compatible,
 * 6to4, Teredo, local-use NAT64) are refused whatever they hold, as are zone ids, names and other notations.
 */
export function isPublic(address: string): boolean {
  const parsed = parse(address)
  if (!parsed) return false
  const plain = unwrap(parsed)
  if (NOT_PUBLIC.has(plain.toString())) return false
  return plain.range() === 'unicast' && (isV4(plain) || plain.match(GLOBAL_UNICAST))
}

/** True when the operator listed the host with this port, or a network with this address. */
export function isAllowed(allow: EgressAllow, to: Destination): boolean {
  if (isHostAllowed(allow, to)) return true
  const parsed = parse(to.address)
  if (!parsed) return false
  const address = isV4(parsed) || !parsed.isIPv4MappedAddress() ? parsed : parsed.toIPv4Address()
  return allow.networks.some(([network, prefix]) => network.kind() === address.kind() && address.match(network, prefix))
}

/** True when the operator listed this host and port by name. */
export function isHostAllowed(allow: EgressAllow, to: { readonly host: string; readonly port: number }): boolean {
  const host = bareHost(to.host)
  return allow.hosts.some((entry) => entry.host === host && (entry.port === '*' || entry.port === to.port))
}

/**
 * Reads SATCHEL_EGRESS_ALLOW: entries `host:port`, `host:*` (IPv6 in brackets) or `network/prefix`, separated by commas.
 * Empty text opens nothing. Throws an Error whose message is one sentence about the first bad entry.
 */
export function parseEgressAllow(text: string): EgressAllow {
  const entries = text.split(',').map((entry) => entry.trim())
  const hosts: EgressAllow['hosts'][number][] = []
  const networks: EgressAllow['networks'][number][] = []
  for (const entry of entries.filter((entry) => entry !== ''))
    if (entry.includes('/')) networks.push(parseNetwork(entry))
    else hosts.push(parseHost(entry))
  return { hosts, networks }
}

/** The list as parseEgressAllow reads it, for the log; 'nothing' when empty. */
export function describe(allow: EgressAllow): string {
  const hosts = allow.hosts.map(({ host, port }) => `${isIP(host) === 6 ? `[${host}]` : host}:${port}`)
  const networks = allow.networks.map(([network, prefix]) => `${network.toString()}/${prefix}`)
  return [...hosts, ...networks].join(', ') || 'nothing'
}

/** A URL's hostname without brackets and final dot, in lower case: the form that hosts are compared in. */
export function bareHost(hostname: string): string {
  return hostname
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '')
}

function parseHost(entry: string): EgressAllow['hosts'][number] {
  const bad = (what: string) => new Error(`"${entry}" ${what}; write host:port, host:*, [ipv6]:port or network/prefix`)
  const [, host = '', port = ''] = /^(\[[^\]]+\]|[^:[\]]+):(\*|\d{1,5})$/.exec(entry) ?? []
  if (host === '') throw bad('is not a host with a port')
  if (port !== '*' && (Number(port) < 1 || Number(port) > 65535)) throw bad('has a port outside 1 to 65535')
  if (/[*@?#\\\s]/.test(host) || !URL.canParse(`http://${host}/`)) throw bad('does not begin with a valid host name')
  return { host: bareHost(new URL(`http://${host}/`).hostname), port: port === '*' ? '*' : Number(port) }
}

function parseNetwork(entry: string): EgressAllow['networks'][number] {
  const [, base = '', bits = ''] = /^([^/]+)\/(\d{1,3})$/.exec(entry) ?? []
  const address = parse(base)
  const prefix = Number(bits)
  if (!address || prefix > (isV4(address) ? 32 : 128) || unwrap(address) !== address)
    throw new Error(`"${entry}" is not a network; write it like 10.0.0.0/8 or fd00::/8`)
  const kind = isV4(address) ? ipaddr.IPv4 : ipaddr.IPv6
  const first = kind.networkAddressFromCIDR(`${address.toString()}/${prefix}`)
  if (first.toString() !== address.toString())
    throw new Error(`"${entry}" has bits set behind its prefix; write ${first.toString()}/${prefix}`)
  return [address, prefix]
}

/** Undefined for what is not an address in its usual spelling: ipaddr.js also reads octal, hexadecimal and short forms. */
function parse(address: string): Address | undefined {
  if (isIP(address) === 0 || address.includes('%')) return undefined
  // By way of URL, which spells ::8.8.8.8 as ::808:808: ipaddr.js would take the former for a mapped address.
  return isIP(address) === 4 ? ipaddr.parse(address) : ipaddr.parse(bareHost(new URL(`http://[${address}]`).hostname))
}

function unwrap(address: Address): Address {
  if (isV4(address)) return address
  if (address.isIPv4MappedAddress()) return address.toIPv4Address()
  return address.match(NAT64) ? new ipaddr.IPv4(address.toByteArray().slice(12)) : address
}

const isV4 = (address: Address): address is ipaddr.IPv4 => address.kind() === 'ipv4'
