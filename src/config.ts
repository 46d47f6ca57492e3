/**
 * The one reader of the environment. Every variable is one entry of config/table.ts; with nothing set Satchel runs on loopback
 * with everything in one folder.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { faultsBetween } from './config/between.ts'
import type { LOG_LEVELS } from './config/parse.ts'
import { ROLES, type Role } from './config/roles.ts'
import { type Entry, TABLE, type Values } from './config/table.ts'
import type { EgressAllow } from './remote/address.ts'
import type { S3Credentials } from './storage/s3-location.ts'

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

function s3Credentials(v: Values): S3Credentials | undefined {
  const { SATCHEL_S3_ACCESS_KEY_ID: accessKeyId, SATCHEL_S3_SECRET_ACCESS_KEY: secretAccessKey } = v
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined
  const sessionToken = v.SATCHEL_S3_SESSION_TOKEN
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) }
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
  const between = faultsBetween(roles, v)
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
