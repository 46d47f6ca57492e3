/**
 * Opens a backend by its URL: the one place that knows which scheme is which. The server opens what its configuration names,
 * and so do the commands that work beside it.
 */
import { type Config, ConfigError } from './config.ts'
import { DatabaseUnusable, openPostgres } from './db/postgres.ts'
import type { Opened } from './db/schema.ts'
import { openSqlite } from './db/sqlite.ts'
import { openDisk } from './storage/disk.ts'
import type { S3 } from './storage/s3.ts'
import { parseS3Location, type S3Credentials } from './storage/s3-location.ts'
import type { Storage } from './storage/storage.ts'

const after = (scheme: string, url: string): string | undefined =>
  url.startsWith(scheme) && url.length > scheme.length ? url.slice(scheme.length) : undefined

const POOL_SIZE = 10

/**
 * `sqlite:PATH` or `postgres://...`. Migrates it. Throws RangeError for a URL of another kind, ConfigError when PostgreSQL
 * cannot be used.
 */
export async function openDatabase(url: string, o: { poolSize?: number } = {}): Promise<Opened> {
  const path = after('sqlite:', url)
  if (path !== undefined) return await openSqlite(path)
  if (!isPostgres(url)) throw new RangeError('a database is named by sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME')
  try {
    return await openPostgres(url, { poolSize: o.poolSize ?? POOL_SIZE })
  } catch (error) {
    throw error instanceof DatabaseUnusable ? new ConfigError([`SATCHEL_DATABASE_URL: ${error.message}.`]) : error
  }
}

/** Whether other processes may use the database at the same time. */
export const isPostgres = (url: string): boolean => /^postgres(ql)?:/.test(url)

/**
 * `file:PATH`, or `s3://BUCKET?...` with these credentials or those of the AWS chain. `exclusive`: no other process uses the
 * folder. Throws RangeError for a URL of another kind.
 */
export async function openStorage(
  url: string,
  o: { exclusive: boolean; credentials: S3Credentials | undefined },
): Promise<Storage> {
  const path = after('file:', url)
  if (path !== undefined) return await openDisk(path, o)
  if (!isS3(url)) throw new RangeError('a storage is named by file:PATH or s3://BUCKET?endpoint=...&region=...')
  return (await openBucket(url, o.credentials)).storage
}

/** The AWS client costs 40 MB and a tenth of a second, so it is loaded only by those who have a bucket. */
export async function openBucket(url: string, credentials: S3Credentials | undefined): Promise<S3> {
  const { openS3 } = await import('./storage/s3.ts')
  return openS3(parseS3Location(url), credentials)
}

export const isS3 = (url: string): boolean => url.startsWith('s3:')

/** What SATCHEL_DATABASE_URL and SATCHEL_STORAGE_URL name, or their defaults. */
export function configuredUrls(config: Config): { database: string; storage: string } {
  return { database: config.databaseUrl, storage: config.storageUrl }
}
