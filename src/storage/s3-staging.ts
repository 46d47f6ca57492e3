/**
 * Uploads straight to the bucket: a presigned PUT that signs the type and the length, made by our own signer in the very
 * form of the AWS SDK's, and the copy that takes what came out of the client's reach.
 */
import { CopyObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { presign, type SigningKey } from '../sigv4.ts'
import { deadline, encryption, fullKey, isMissing, storageFailure } from './s3-client.ts'
import type { S3Location } from './s3-location.ts'
import type { Staging } from './staging.ts'

/** A copy of 100 MB within a bucket takes a second or two. */
const COPY_MS = 30_000

export function openStaging(client: S3Client, location: S3Location): Staging {
  const { bucket } = location
  let base: Promise<string> | undefined
  let key: SigningKey | undefined

  /** One object for one credential, since that is what the signer keeps its derived keys by. */
  async function signingKey(): Promise<{ key: SigningKey; sessionToken: string | undefined }> {
    const { accessKeyId, secretAccessKey, sessionToken } = await client.config.credentials()
    if (key?.accessKeyId !== accessKeyId || key.secretAccessKey !== secretAccessKey) {
      key = { accessKeyId, secretAccessKey, region: await client.config.region() }
    }
    return { key, sessionToken }
  }

  return {
    async uploadUrl(o) {
      base ??= bucketUrl(client, location)
      const { key, sessionToken } = await signingKey()
      const token = sessionToken === undefined ? '' : `&X-Amz-Security-Token=${encodeURIComponent(sessionToken)}`
      return presign(key, {
        method: 'PUT',
        url: `${await base}/${fullKey(location, o.key)}?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD${token}&x-id=PutObject`,
        headers: { 'content-type': o.contentType, 'content-length': String(o.sizeBytes) },
        now: o.now,
        expiresSeconds: o.expiresSeconds,
      })
    },

    async copy(from, to, signal) {
      const limit = deadline(COPY_MS, signal)
      const copy = new CopyObjectCommand({
        Bucket: bucket,
        Key: fullKey(location, to),
        CopySource: `${bucket}/${fullKey(location, from)}`,
        ...encryption(location),
      })
      try {
        await client.send(copy, { abortSignal: limit.signal })
        return true
      } catch (error) {
        signal?.throwIfAborted()
        if (isMissing(error)) return false
        throw storageFailure(error)
      } finally {
        limit.clear()
      }
    },
  }
}

/** Where the bucket's keys begin for clients, by the SDK's own rules for regions, partitions and styles. */
async function bucketUrl(client: S3Client, { bucket, pathStyle, publicEndpoint }: S3Location): Promise<string> {
  const { url } = client.config.endpointProvider({
    Bucket: bucket,
    Region: await client.config.region(),
    ForcePathStyle: pathStyle,
    UseFIPS: await client.config.useFipsEndpoint(),
    UseDualStack: await client.config.useDualstackEndpoint(),
    ...(publicEndpoint === undefined ? {} : { Endpoint: publicEndpoint }),
  })
  return url.href.replace(/\/+$/, '')
}
