/**
 * Every variable, one entry each: what it is, what it is when nobody sets it, and how its text is read. The docs, `config --print` and
 * the checks all come from here.
 */
import { type EgressAllow, parseEgressAllow } from '../remote/address.ts'
import {
  LOG_LEVELS,
  parseApiKey,
  parseBaseUrl,
  parseDatabaseUrl,
  parseDays,
  parseGatewayUrl,
  parseHost,
  parseLogLevel,
  parsePath,
  parsePhoneNumbers,
  parsePoolSize,
  parsePort,
  parseSigningSecret,
  parseStorageUrl,
  parseToken,
  parseUploads,
} from './parse.ts'

export type Entry<T> = {
  /** What it is, in one sentence; shown by `config --print` and in docs/operate.md. */
  readonly about: string
  readonly default: string
  readonly parse: (text: string) => T
  /** Masked when printed, and also read from the file that NAME_FILE names. */
  readonly secret?: true
}

const entry = <T>(e: Entry<T>): Entry<T> => e

export const TABLE = {
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
export type Values = { readonly [N in keyof Table]: ReturnType<Table[N]['parse']> }
