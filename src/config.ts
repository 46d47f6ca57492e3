/**
 * The one reader of the environment. Every variable is one entry of the table below: the docs, `config --print` and the
 * checks all come from it. With nothing set Satchel runs on loopback with everything in one folder.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { type EgressAllow, parseEgressAllow } from './remote/address.ts'
import { parseS3Location, type S3Credentials } from './storage/s3-location.ts'

type Entry<T> = {
  /** What it is, in one sentence; shown by `config --print` and in docs/operate.md. */
  readonly about: string
  readonly default: string
  readonly parse: (text: string) => T
  /** Masked when printed, and also read from the file that NAME_FILE names. */
  readonly secret?: true
}

const entry = <T>(e: Entry<T>): Entry<T> => e

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

const TABLE = {
  SATCHEL_HOST: entry({ about: 'Address that both ports listen on.', default: '127.0.0.1', parse: parseHost }),
  SATCHEL_PORT: entry({ about: 'Port of the JSON API; 0 takes any free one.', default: '4010', parse: parsePort }),
  SATCHEL_CDN_PORT: entry({
    about: 'Port of uploads and the CDN, a different origin from the API on purpose; 0 takes any free one.',
    default: '4011',
    parse: parsePort,
  }),
  SATCHEL_PUBLIC_URL: entry({
    about: 'What callers reach the API port as. Default: http://HOST:PORT.',
    default: '',
    parse: parseBaseUrl,
  }),
  SATCHEL_CDN_URL: entry({
    about: 'What upload_url and download_url begin with. Default: http://HOST:CDN_PORT.',
    default: '',
    parse: parseBaseUrl,
  }),
  SATCHEL_DATA_DIR: entry({
    about: 'Folder for the database, the files and the generated secrets.',
    default: './data',
    parse: parsePath,
  }),
  SATCHEL_DATABASE_URL: entry({
    about:
      'sqlite:PATH, or postgres://USER:PASSWORD@HOST/NAME for several nodes. Default: satchel.sqlite in the data folder.',
    default: '',
    parse: parseDatabaseUrl,
    secret: true,
  }),
  SATCHEL_DATABASE_POOL: entry({
    about: 'Connections that this node keeps to PostgreSQL.',
    default: '10',
    parse: parsePoolSize,
  }),
  SATCHEL_STORAGE_URL: entry({
    about:
      'file:PATH, or s3://BUCKET?endpoint=...&region=... (docs/storage.md). Default: the folder files in the data folder.',
    default: '',
    parse: parseStorageUrl,
  }),
  SATCHEL_S3_ACCESS_KEY_ID: entry({
    about: 'Access key for the bucket. Default: what the AWS chain finds (environment, shared files, role).',
    default: '',
    parse: parseToken,
  }),
  SATCHEL_S3_SECRET_ACCESS_KEY: entry({
    about: 'Its secret.',
    default: '',
    parse: parseToken,
    secret: true,
  }),
  SATCHEL_S3_SESSION_TOKEN: entry({
    about: 'Its session token, where it is temporary.',
    default: '',
    parse: parseToken,
    secret: true,
  }),
  SATCHEL_UPLOADS: entry({
    about:
      'direct: clients PUT straight to the bucket; proxy: through the CDN port. Default: direct with a bucket, else proxy.',
    default: '',
    parse: parseUploads,
  }),
  SATCHEL_CDN_PURGE_URL: entry({
    about:
      'POSTed {"urls": [...]} when files are deleted, to make a CDN before us forget them. Default: nobody is told.',
    default: '',
    parse: parseGatewayUrl,
    secret: true,
  }),
  SATCHEL_API_KEY: entry({
    about: 'API key of the partner that exists at start. Default: one is made once and kept in the data folder.',
    default: '',
    parse: parseApiKey,
    secret: true,
  }),
  SATCHEL_PHONE_NUMBERS: entry({
    about: 'Comma-separated E.164 numbers of that partner. Default: two +1202555xxxx numbers.',
    default: '',
    parse: parsePhoneNumbers,
  }),
  SATCHEL_EGRESS_ALLOW: entry({
    about:
      'Comma-separated host:port, host:* or CIDR that outgoing calls may reach although they are not public, and for which webhook targets may be plain http.',
    default: '',
    parse: parseEgressAllow as (text: string) => EgressAllow,
  }),
  SATCHEL_RETENTION_DAYS: entry({
    about: 'Days that events and the attempts to deliver them are kept for looking at.',
    default: '7',
    parse: parseDays,
  }),
  SATCHEL_GATEWAY_URL: entry({
    about: 'Where messages are POSTed to for delivery by real transports. Default: the sandbox takes them.',
    default: '',
    parse: parseGatewayUrl,
  }),
  SATCHEL_GATEWAY_SECRET: entry({
    about: 'Signs what goes to the gateway and what comes from it: whsec_ and the base64 of 24 to 64 random bytes.',
    default: '',
    parse: parseSigningSecret,
    secret: true,
  }),
  SATCHEL_OTLP_URL: entry({
    about: 'OpenTelemetry collector that traces are sent to (OTLP/HTTP with JSON). Default: none.',
    default: '',
    parse: parseBaseUrl,
  }),
  SATCHEL_LOG_LEVEL: entry({
    about: `One of ${LOG_LEVELS.join(', ')}. Requests that succeed are logged at debug.`,
    default: 'info',
    parse: parseLogLevel,
  }),
}

type Table = typeof TABLE
type Values = { readonly [N in keyof Table]: ReturnType<Table[N]['parse']> }

export type Config = {
  readonly roles: readonly Role[]
  readonly host: string
  readonly port: number
  readonly cdnPort: number
  /** undefined: made from host and port once the port is known. */
  readonly publicUrl: string | undefined
  readonly cdnUrl: string | undefined
  readonly dataDir: string
  /** sqlite:PATH or postgres://... */
  readonly databaseUrl: string
  readonly databasePool: number
  /** file:PATH or s3://BUCKET?... */
  readonly storageUrl: string
  /** undefined: the AWS chain. */
  readonly s3Credentials: S3Credentials | undefined
  readonly uploads: 'direct' | 'proxy'
  readonly cdnPurgeUrl: string | undefined
  readonly apiKey: string | undefined
  readonly phoneNumbers: readonly string[]
  readonly egressAllow: EgressAllow
  /** undefined: the sandbox is the carrier. */
  readonly gateway: { readonly url: string; readonly secret: string } | undefined
  readonly retentionDays: number
  /** undefined: no traces. */
  readonly otlpUrl: string | undefined
  readonly logLevel: (typeof LOG_LEVELS)[number]
}

/** Everything that is wrong with the configuration, one sentence each; every sentence names its variable. */
export class ConfigError extends Error {
  readonly faults: readonly string[]
  constructor(faults: readonly string[]) {
    super(faults.join('\n'))
    this.name = 'ConfigError'
    this.faults = faults
  }
}

/** What a node does: the JSON API, uploads and the CDN, jobs and webhooks. */
export const ROLES = ['api', 'edge', 'worker'] as const
export type Role = (typeof ROLES)[number]

function checkPorts(v: Values): string[] {
  if (!v.SATCHEL_PORT || v.SATCHEL_PORT !== v.SATCHEL_CDN_PORT) return []
  return ['SATCHEL_CDN_PORT: must differ from SATCHEL_PORT; the CDN is another origin on purpose.']
}

function checkGateway({ SATCHEL_GATEWAY_URL: url, SATCHEL_GATEWAY_SECRET: secret }: Values): string[] {
  if ((url === undefined) === (secret === undefined)) return []
  return secret === undefined
    ? ['SATCHEL_GATEWAY_SECRET: must be set with SATCHEL_GATEWAY_URL.']
    : ['SATCHEL_GATEWAY_URL: must be set with SATCHEL_GATEWAY_SECRET.']
}

/** What a node that leaves something to others must know of them. */
function checkRoles(roles: readonly Role[], v: Values): string[] {
  if (roles.length === ROLES.length) return []
  const without = `on a node with --role ${roles.join(',')}`
  const faults: string[] = []
  if (!v.SATCHEL_DATABASE_URL || v.SATCHEL_DATABASE_URL.startsWith('sqlite:')) {
    faults.push(
      `SATCHEL_DATABASE_URL: must be postgres://... ${without}; SQLite serves one process that does everything.`,
    )
  }
  if (!v.SATCHEL_STORAGE_URL) {
    faults.push(`SATCHEL_STORAGE_URL: must be set ${without}: the nodes share their files.`)
  }
  if (!roles.includes('edge') && !v.SATCHEL_CDN_URL) {
    faults.push(`SATCHEL_CDN_URL: must be set ${without}: uploads and downloads are served by others.`)
  }
  return faults
}

function s3Credentials(v: Values): S3Credentials | undefined {
  const { SATCHEL_S3_ACCESS_KEY_ID: accessKeyId, SATCHEL_S3_SECRET_ACCESS_KEY: secretAccessKey } = v
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined
  const sessionToken = v.SATCHEL_S3_SESSION_TOKEN
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) }
}

/** What belongs to a bucket is a mistake without one. */
function checkS3(v: Values): string[] {
  const faults: string[] = []
  const isBucket = v.SATCHEL_STORAGE_URL?.startsWith('s3:') ?? false
  if (v.SATCHEL_UPLOADS === 'direct' && !isBucket) {
    faults.push('SATCHEL_UPLOADS: direct needs a bucket in SATCHEL_STORAGE_URL.')
  }
  const [id, secret] = [v.SATCHEL_S3_ACCESS_KEY_ID, v.SATCHEL_S3_SECRET_ACCESS_KEY]
  if ((id === undefined) !== (secret === undefined)) {
    faults.push('SATCHEL_S3_SECRET_ACCESS_KEY: must be set together with SATCHEL_S3_ACCESS_KEY_ID.')
  }
  if (v.SATCHEL_S3_SESSION_TOKEN !== undefined && id === undefined) {
    faults.push('SATCHEL_S3_SESSION_TOKEN: needs SATCHEL_S3_ACCESS_KEY_ID.')
  }
  return faults
}

/** Reads, checks and freezes the configuration. Throws ConfigError with all faults together. */
export function loadConfig(env: NodeJS.ProcessEnv = process.env, roles: readonly Role[] = ROLES): Config {
  const faults = unknownNames(env).map((name) => `${name} is not a variable of Satchel; see "satchel config --print".`)
  const values: Record<string, unknown> = {}
  for (const [name, { parse, default: fallback }] of Object.entries(TABLE) as [string, Entry<unknown>][]) {
    try {
      values[name] = parse(readText(env, name) ?? fallback)
    } catch (error) {
      faults.push(`${name}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  const v = values as Values
  // What is wrong between two variables shows once each of them by itself is right.
  const wrong = new Set(faults.flatMap((fault) => fault.match(/^SATCHEL_[A-Z0-9_]+(?=:)/) ?? []))
  const between = [...checkPorts(v), ...checkGateway(v), ...checkRoles(roles, v), ...checkS3(v)]
  faults.push(...between.filter((fault) => !fault.match(/SATCHEL_[A-Z0-9_]+/g)?.some((name) => wrong.has(name))))
  if (faults.length > 0) throw new ConfigError(faults)
  const { SATCHEL_DATA_DIR: dataDir, SATCHEL_GATEWAY_URL: url, SATCHEL_GATEWAY_SECRET: secret } = v
  return Object.freeze({
    roles,
    host: v.SATCHEL_HOST,
    port: v.SATCHEL_PORT,
    cdnPort: v.SATCHEL_CDN_PORT,
    publicUrl: v.SATCHEL_PUBLIC_URL,
    cdnUrl: v.SATCHEL_CDN_URL,
    dataDir,
    databaseUrl: v.SATCHEL_DATABASE_URL ?? `sqlite:${resolve(dataDir, 'satchel.sqlite')}`,
    databasePool: v.SATCHEL_DATABASE_POOL,
    storageUrl: v.SATCHEL_STORAGE_URL ?? `file:${resolve(dataDir, 'files')}`,
    s3Credentials: s3Credentials(v),
    uploads: v.SATCHEL_UPLOADS ?? (v.SATCHEL_STORAGE_URL?.startsWith('s3:') ? 'direct' : 'proxy'),
    cdnPurgeUrl: v.SATCHEL_CDN_PURGE_URL,
    apiKey: v.SATCHEL_API_KEY,
    phoneNumbers: v.SATCHEL_PHONE_NUMBERS,
    egressAllow: v.SATCHEL_EGRESS_ALLOW,
    gateway: url !== undefined && secret !== undefined ? { url, secret } : undefined,
    retentionDays: v.SATCHEL_RETENTION_DAYS,
    otlpUrl: v.SATCHEL_OTLP_URL,
    logLevel: v.SATCHEL_LOG_LEVEL,
  })
}

/** One row a variable for `config --print`: its value in this environment (secrets masked), its default, what it is. */
export function printableConfig(env: NodeJS.ProcessEnv = process.env) {
  return (Object.entries(TABLE) as [string, Entry<unknown>][]).map(([name, { about, default: fallback, secret }]) => {
    const text = readText(env, name)
    return { name, value: text && secret ? '(set)' : (text ?? fallback), isSet: text !== undefined, about }
  })
}

/** What the SDKs read to find an API, for the commands that are clients of one themselves. */
export function clientEnvironment(env: NodeJS.ProcessEnv = process.env): {
  baseUrl: string | undefined
  apiKey: string | undefined
} {
  return { baseUrl: env.LINQ_API_V3_BASE_URL || undefined, apiKey: env.LINQ_API_V3_API_KEY || undefined }
}

function unknownNames(env: NodeJS.ProcessEnv): string[] {
  const known = new Set<string>()
  for (const [name, { secret }] of Object.entries(TABLE) as [string, Entry<unknown>][]) {
    known.add(name)
    if (secret) known.add(`${name}_FILE`)
  }
  return Object.keys(env).filter((name) => name.startsWith('SATCHEL_') && !known.has(name))
}

/** An empty variable counts as not set: that is how compose files and shells pass "nothing". An empty file does not. */
function readText(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const file = (TABLE as Record<string, Entry<unknown>>)[name]?.secret && env[`${name}_FILE`]
  if (env[name] && file) throw new Error(`set either ${name} or ${name}_FILE, not both.`)
  if (!file) return env[name] || undefined
  const text = readSecret(file, name)
  if (text === '') throw new Error(`the file that ${name}_FILE names is empty.`)
  return text
}

function readSecret(file: string, name: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    throw new Error(`the file that ${name}_FILE names cannot be read.`)
  }
}

function parseHost(text: string): string {
  if (!/^[A-Za-z0-9.:_-]+$/.test(text)) throw new Error(`"${text}" is not a host name or an IP address.`)
  return text
}

function parsePort(text: string): number {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port > 65535) throw new Error(`"${text}" is not a port number from 0 to 65535.`)
  return port
}

function parseBaseUrl(text: string): string | undefined {
  if (text === '') return undefined
  const url = URL.parse(text)
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.search || url.hash || url.username || url.password) {
    throw new Error(`"${text}" is not an http or https URL without query, fragment or user.`)
  }
  return url.href.replace(/\/+$/, '')
}

/** Unlike a base URL it is called as it is, query included. */
function parseGatewayUrl(text: string): string | undefined {
  if (text === '') return undefined
  const url = URL.parse(text)
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.hash || url.username || url.password) {
    throw new Error(`"${text}" is not an http or https URL without fragment and user.`)
  }
  return url.href
}

function parseSigningSecret(text: string): string | undefined {
  if (text === '') return undefined
  const [, base64 = ''] = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text) ?? []
  const { length } = Buffer.from(base64, 'base64')
  if (length < 24 || length > 64) throw new Error('must be whsec_ and the base64 of 24 to 64 random bytes.')
  return text
}

function parsePath(text: string): string {
  if (text.includes('\0')) throw new Error('a path cannot hold a NUL character.')
  return resolve(text)
}

function parseScheme(text: string, scheme: string): string | undefined {
  if (text === '') return undefined
  if (!text.startsWith(scheme) || text.length === scheme.length) throw new Error(`must be ${scheme}PATH.`)
  return parsePath(text.slice(scheme.length))
}

function parseDatabaseUrl(text: string): string | undefined {
  if (text === '') return undefined
  if (text.startsWith('sqlite:')) return `sqlite:${parseScheme(text, 'sqlite:')}`
  // The text itself holds a password and is never shown.
  const url = URL.parse(text)
  if (!url || !['postgres:', 'postgresql:'].includes(url.protocol) || url.pathname.length < 2) {
    throw new Error('must be sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME.')
  }
  return text
}

function parsePoolSize(text: string): number {
  const size = Number(text)
  if (!/^\d{1,4}$/.test(text) || size < 2) throw new Error(`"${text}" is not a whole number from 2 to 9999.`)
  return size
}

/** Paths are made absolute; a bucket is checked as far as it can be without asking it. */
function parseStorageUrl(text: string): string | undefined {
  if (text.startsWith('s3:')) {
    parseS3Location(text)
    return text
  }
  const path = parseScheme(text, 'file:')
  return path === undefined ? undefined : `file:${path}`
}

function parseUploads(text: string): 'direct' | 'proxy' | undefined {
  if (text === '') return undefined
  if (text !== 'direct' && text !== 'proxy') throw new Error(`"${text}" is not direct or proxy.`)
  return text
}

function parseToken(text: string): string | undefined {
  if (text === '') return undefined
  if (!/^[\x21-\x7e]+$/.test(text)) throw new Error('must be printable ASCII characters without blanks.')
  return text
}

function parseApiKey(text: string): string | undefined {
  if (text === '') return undefined
  if (!/^[\x21-\x7e]{8,512}$/.test(text)) throw new Error('must be 8 to 512 printable ASCII characters without blanks.')
  return text
}

function parsePhoneNumbers(text: string): readonly string[] {
  const numbers = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  for (const number of numbers) {
    if (!E164.test(number)) throw new Error(`"${number}" is not in E.164 format, as +12025550100 is.`)
  }
  return [...new Set(numbers)]
}

function parseDays(text: string): number {
  const days = Number(text)
  if (!/^\d{1,4}$/.test(text) || days < 1) throw new Error(`"${text}" is not a whole number of days from 1 to 9999.`)
  return days
}

function parseLogLevel(text: string): (typeof LOG_LEVELS)[number] {
  const level = LOG_LEVELS.find((known) => known === text)
  if (!level) throw new Error(`"${text}" is not one of ${LOG_LEVELS.join(', ')}.`)
  return level
}

/** Contract code 1002. */
export const E164 = /^\+[1-9][0-9]{1,14}$/
