/**
 * The AWS client as we use it: bounded in time and tries, and silent about checksums that servers other than AWS do not
 * know. What it throws is translated here, and nowhere else.
 */
import { NoSuchKey, NotFound, S3Client, S3ServiceException } from '@aws-sdk/client-s3'
import { Failure } from '../failure.ts'
import type { S3Credentials, S3Location } from './s3-location.ts'

const TRIES = 3
const CONNECT_MS = 2_000
/** Nothing sent and nothing received: longer than the edge lets a slow reader pause. */
const IDLE_MS = 65_000
/** A socket that nobody used for so long is not used again: the other side may just be closing it. */
const KEEP_ALIVE_MS = 4_000
const MOST_SOCKETS = 2_048
/** From the call to the answer's head. */
export const ANSWER_MS = 10_000

/** Without one the client warns on the console of what it throws besides. */
const QUIET = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }

/** `credentials` undefined: the AWS chain (environment, shared files, container or instance role). */
export function openS3Client(location: S3Location, credentials: S3Credentials | undefined): S3Client {
  const agent = { keepAlive: true, maxSockets: MOST_SOCKETS, timeout: KEEP_ALIVE_MS }
  return new S3Client({
    ...(location.region === undefined ? {} : { region: location.region }),
    ...(location.endpoint === undefined ? {} : { endpoint: location.endpoint }),
    ...(credentials === undefined ? {} : { credentials }),
    forcePathStyle: location.pathStyle,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    followRegionRedirects: false,
    maxAttempts: TRIES,
    logger: QUIET,
    requestHandler: {
      connectionTimeout: CONNECT_MS,
      socketTimeout: IDLE_MS,
      httpAgent: agent,
      httpsAgent: agent,
    },
  })
}

export const KEY = /^[a-z0-9_-]+(\/[a-z0-9_-]+)*$/

/** What every write asks for. */
export const encryption = ({ sse, kmsKey }: S3Location) => ({
  ...(sse === undefined ? {} : { ServerSideEncryption: sse }),
  ...(kmsKey === undefined ? {} : { SSEKMSKeyId: kmsKey }),
})

export function fullKey({ prefix }: S3Location, key: string): string {
  if (!KEY.test(key)) throw new Error(`not a storage key: ${JSON.stringify(key)}`)
  return prefix + key
}

/** What a HEAD says about a missing key has no body, and so another name. */
export const isMissing = (error: unknown): boolean => error instanceof NoSuchKey || error instanceof NotFound

/** The bytes asked for lie behind the end. */
export const isBeyondEnd = (error: unknown): boolean =>
  error instanceof S3ServiceException && error.$metadata.httpStatusCode === 416

/** Full, or else not to be had just now: refused keys and a bucket that is gone are the operator's, who may cure them. */
export function storageFailure(error: unknown): Failure {
  if (error instanceof Failure) return error
  const full = error instanceof S3ServiceException && /Quota|StorageFull|InsufficientStorage/.test(error.name)
  return new Failure(full ? 'storage_full' : 'storage_unavailable', undefined, { cause: withoutRequest(error) })
}

/** A vendor error without its request and answer objects: they hold signatures, and a log line would print them. */
function withoutRequest(error: unknown): unknown {
  if (!(error instanceof S3ServiceException)) return error
  const { httpStatusCode, requestId, attempts } = error.$metadata
  return Object.assign(new Error(`S3: ${error.name}: ${error.message}`), { httpStatusCode, requestId, attempts })
}

/** Aborts with the caller, or after `ms`; the time limit ends at `clear`, the caller's word holds on. */
export function deadline(ms: number, signal?: AbortSignal): { signal: AbortSignal; clear: () => void } {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(new Failure('storage_unavailable')), ms)
  return {
    signal: signal ? AbortSignal.any([late.signal, signal]) : late.signal,
    clear: () => clearTimeout(timer),
  }
}
