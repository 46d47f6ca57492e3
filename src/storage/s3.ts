/**
 * Objects of a bucket, by the AWS client. Works with S3 and with servers that speak it. Layout, below the prefix:
 *   media/<xx>/<id>     complete files, never written again
 *   staging/<xx>/<id>   uploads straight from clients, until they are settled
 * One PUT an object: S3 takes up to 5 GiB in one, and nothing of a PUT that breaks off.
 */
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3'
import { Failure } from '../failure.ts'
import { exactly } from './exactly.ts'
import {
  ANSWER_MS,
  deadline,
  encryption,
  fullKey,
  isBeyondEnd,
  isMissing,
  KEY,
  openS3Client,
  storageFailure,
} from './s3-client.ts'
import type { S3Credentials, S3Location } from './s3-location.ts'
import { openStaging } from './s3-staging.ts'
import type { Staging } from './staging.ts'
import type { Entry, PutOptions, Storage } from './storage.ts'

/** How long the bucket may leave the bytes of a PUT waiting, or the whole of it unanswered. */
const STALL_MS = 20_000
/** Sent from memory, so that the client can send it again when the bucket asks for that; larger bodies pass by once. */
const SMALL_BYTES = 256 * 1024
const CLEAR_AWAY_PAUSES_MS = [20, 50, 100, 200]

export type S3 = {
  readonly storage: Storage
  readonly staging: Staging
  /** Resolves when the bucket is there and ours; rejects with an Error for the operator, or a Failure when it is not reachable. */
  check(): Promise<void>
  close(): void
}

/** Talks to nobody yet. `credentials` undefined: the AWS chain. */
export function openS3(location: S3Location, credentials?: S3Credentials): S3 {
  const client = openS3Client(location, credentials)
  return {
    storage: openBucket(client, location),
    staging: openStaging(client, location),
    check: () => checkBucket(client, location),
    close: () => client.destroy(),
  }
}

function openBucket(client: S3Client, location: S3Location): Storage {
  const { bucket: Bucket, prefix } = location
  const at = (key: string) => ({ Bucket, Key: fullKey(location, key) })

  /** One call with a time limit up to the answer's head. */
  async function ask<T>(call: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal, clear } = deadline(ANSWER_MS)
    try {
      return await call(signal)
    } finally {
      clear()
    }
  }

  async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
    try {
      return await work
    } catch (error) {
      if (isMissing(error)) return undefined
      throw storageFailure(error)
    }
  }

  async function remove(key: string): Promise<void> {
    const remove = new DeleteObjectCommand(at(key))
    await unlessMissing(ask((abortSignal) => client.send(remove, { abortSignal })))
  }

  async function stat(key: string): Promise<Entry | undefined> {
    const head = new HeadObjectCommand(at(key))
    const found = await unlessMissing(ask((abortSignal) => client.send(head, { abortSignal })))
    return found && { key, size: found.ContentLength ?? 0, modified: found.LastModified?.getTime() ?? 0 }
  }

  /**
   * S3 keeps nothing of a body that breaks off, but some servers keep what had come, a moment after the line is cut. The key
   * is of no use to anyone any more, so what is there may go; what is missed is an object without a row.
   */
  async function clearAway(key: string): Promise<void> {
    for (const pauseMs of CLEAR_AWAY_PAUSES_MS) {
      await sleep(pauseMs)
      if (await stat(key)) return await remove(key)
    }
  }

  return {
    async put(key, body, size, options: PutOptions = {}) {
      const target = at(key)
      options.signal?.throwIfAborted()
      const stop = new AbortController()
      const stream = exactly(body, size, options)
      stream.once('error', (error) => stop.abort(error))
      const watch = setInterval(() => {
        if (Date.now() - (stream.waitingSince ?? Number.POSITIVE_INFINITY) > STALL_MS) {
          stop.abort(new Failure('storage_unavailable', undefined, { cause: new Error('the bucket takes no bytes') }))
        }
      }, 1_000)
      const abortSignal = options.signal ? AbortSignal.any([stop.signal, options.signal]) : stop.signal
      try {
        const Body = size <= SMALL_BYTES ? await buffer(stream) : stream
        const put = new PutObjectCommand({ ...target, Body, ContentLength: size, ...encryption(location) })
        await client.send(put, { abortSignal })
      } catch (error) {
        if (!(error instanceof S3ServiceException)) await clearAway(key).catch(() => {})
        options.signal?.throwIfAborted()
        throw stop.signal.aborted ? stop.signal.reason : storageFailure(error)
      } finally {
        clearInterval(watch)
        stream.destroy()
      }
    },

    async get(key, range) {
      const Range = range && `bytes=${range.start}-${range.end}`
      const get = new GetObjectCommand({ ...at(key), ...(Range === undefined ? {} : { Range }) })
      try {
        const found = await ask((abortSignal) => client.send(get, { abortSignal }))
        if (!(found.Body instanceof Readable)) throw new Error('S3 answered without a body')
        return found.Body
      } catch (error) {
        if (isBeyondEnd(error)) return Readable.from([])
        if (isMissing(error)) return undefined
        throw storageFailure(error)
      }
    },

    stat,

    delete: remove,

    async *list(after) {
      let token: string | undefined
      do {
        const page = new ListObjectsV2Command({
          Bucket,
          ...(prefix === '' ? {} : { Prefix: prefix }),
          ...(after === undefined ? {} : { StartAfter: prefix + after }),
          ...(token === undefined ? {} : { ContinuationToken: token }),
        })
        const answer = await ask((abortSignal) => client.send(page, { abortSignal })).catch((error) => {
          throw storageFailure(error)
        })
        for (const { Key = '', Size = 0, LastModified } of answer.Contents ?? []) {
          const entry: Entry = { key: Key.slice(prefix.length), size: Size, modified: LastModified?.getTime() ?? 0 }
          if (KEY.test(entry.key)) yield entry
        }
        token = answer.IsTruncated ? answer.NextContinuationToken : undefined
      } while (token !== undefined)
    },
  }
}

async function checkBucket(client: S3Client, { bucket }: S3Location): Promise<void> {
  const { signal, clear } = deadline(ANSWER_MS)
  try {
    await client.send(new HeadBucketCommand({ Bucket: bucket }), { abortSignal: signal })
  } catch (error) {
    const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined
    if (status === 404) throw new Error(`there is no bucket "${bucket}" there`)
    if (status === 403 || status === 400)
      throw new Error(`the bucket "${bucket}" may not be used with these credentials`)
    if (status === 301) throw new Error(`the bucket "${bucket}" lies in another region`)
    throw storageFailure(error)
  } finally {
    clear()
  }
}
