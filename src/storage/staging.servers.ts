/**
 * Upload URLs for a bucket: equal to the AWS SDK's byte for byte, and taken by S3 servers exactly when method, headers and
 * time are those that were signed, whichever program sends them.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { ACCESS_KEY_ID, S3_KINDS, type S3Server, SECRET_ACCESS_KEY, startS3 } from '../../test/support/s3.ts'
import { openS3, type S3 } from './s3.ts'
import { parseS3Location } from './s3-location.ts'

const run = promisify(execFile)
const credentials = { accessKeyId: ACCESS_KEY_ID, secretAccessKey: SECRET_ACCESS_KEY }
const now = Date.UTC(2026, 1, 16, 12, 30, 0)

describe('an upload URL', () => {
  const places: Record<
    string,
    { url: string; client: ConstructorParameters<typeof S3Client>[0] & object; bucket: string }
  > = {
    'AWS, virtual host': { url: 's3://my-bucket?region=eu-central-1', client: {}, bucket: 'my-bucket' },
    'AWS, path style': {
      url: 's3://my-bucket?region=eu-central-1&path_style=true',
      client: { forcePathStyle: true },
      bucket: 'my-bucket',
    },
    'AWS, a bucket with dots': {
      url: 's3://files.example.com?region=eu-central-1',
      client: {},
      bucket: 'files.example.com',
    },
    'AWS, China': { url: 's3://my-bucket?region=cn-north-1', client: { region: 'cn-north-1' }, bucket: 'my-bucket' },
    "an endpoint of one's own": {
      url: 's3://my-bucket?endpoint=http://127.0.0.1:9000&region=eu-central-1',
      client: { endpoint: 'http://127.0.0.1:9000', forcePathStyle: true },
      bucket: 'my-bucket',
    },
    'an endpoint with virtual hosts': {
      url: 's3://my-bucket?endpoint=https://s3.example.com:8443&region=eu-central-1&path_style=false',
      client: { endpoint: 'https://s3.example.com:8443' },
      bucket: 'my-bucket',
    },
    'an endpoint with a path': {
      url: 's3://my-bucket?endpoint=https://example.com/s3/&region=eu-central-1',
      client: { endpoint: 'https://example.com/s3', forcePathStyle: true },
      bucket: 'my-bucket',
    },
    'another endpoint for clients': {
      url: 's3://my-bucket?endpoint=http://minio:9000&public_endpoint=https://s3.example.com&region=eu-central-1',
      client: { endpoint: 'https://s3.example.com', forcePathStyle: true },
      bucket: 'my-bucket',
    },
  }
  for (const [name, { url, client: options, bucket }] of Object.entries(places))
    for (const sessionToken of [undefined, 'a/session+token==with odd&chars'])
      test(`agrees byte for byte with the AWS SDK: ${name}${sessionToken ? ', session token' : ''}`, async () => {
        const keys = { ...credentials, ...(sessionToken === undefined ? {} : { sessionToken }) }
        const s3 = openS3(parseS3Location(`${url}&prefix=some/Prefix`), keys)
        const sdk = new S3Client({
          region: 'eu-central-1',
          credentials: keys,
          requestChecksumCalculation: 'WHEN_REQUIRED',
          ...options,
        })
        for (const type of ['image/jpeg', 'text/plain; charset=utf-8', 'audio/x-m4a;  codecs="a  b"']) {
          const key = 'staging/ab/0195-ab'
          const put = new PutObjectCommand({
            Bucket: bucket,
            Key: `some/Prefix/${key}`,
            ContentType: type,
            ContentLength: 104_857_600,
          })
          const expected = await getSignedUrl(sdk, put, {
            signingDate: new Date(now),
            expiresIn: 900,
            signableHeaders: new Set(['host', 'content-type', 'content-length']),
          })
          const made = { key, contentType: type, sizeBytes: 104_857_600, now, expiresSeconds: 900 }
          assert.equal(await s3.staging.uploadUrl(made), expected)
        }
        sdk.destroy()
        s3.close()
      })
})

for (const kind of S3_KINDS)
  describe(`an upload URL at ${kind}`, () => {
    let server: S3Server
    let s3: S3
    before(async () => {
      server = await startS3(kind)
      s3 = openS3(parseS3Location(server.url({ prefix: 'p' })), credentials)
    })
    after(async () => {
      s3?.close()
      await server?.[Symbol.asyncDispose]()
    })

    const contentType = 'text/csv; charset=utf-8'
    let count = 0
    async function sign(sizeBytes: number, change: { now?: number; expiresSeconds?: number } = {}) {
      const key = `staging/ab/upload-${count++}`
      const o = { key, contentType, sizeBytes, now: Date.now(), expiresSeconds: 900, ...change }
      return { key, url: await s3.staging.uploadUrl(o) }
    }
    const headers = (sizeBytes: number) => ({ 'Content-Type': contentType, 'Content-Length': String(sizeBytes) })
    async function stored(key: string): Promise<Buffer | undefined> {
      const body = await s3.storage.get(key)
      return body && (await buffer(body))
    }

    for (const size of [1, 70_000, 3 * 1024 * 1024]) {
      test(`is taken from fetch with ${size} bytes`, async () => {
        const bytes = randomBytes(size)
        const { key, url } = await sign(size)
        const answer = await fetch(url, { method: 'PUT', body: bytes, headers: headers(size) })
        assert.equal(answer.status, 200, await answer.text())
        assert.ok((await stored(key))?.equals(bytes))
      })

      test(`is taken from curl with ${size} bytes`, async () => {
        const bytes = randomBytes(size)
        const { key, url } = await sign(size)
        const file = join(process.env.TMPDIR ?? '/tmp', `satchel-presigned-${process.pid}-${size}`)
        await writeFile(file, bytes)
        const given = Object.entries(headers(size)).flatMap(([name, value]) => ['-H', `${name}: ${value}`])
        const curl = ['-sS', '--fail-with-body', '-X', 'PUT', url, ...given, '--data-binary', `@${file}`]
        await run('curl', curl)
        assert.ok((await stored(key))?.equals(bytes))
      })
    }

    test('is taken from node:http', async () => {
      const { key, url } = await sign(5)
      const status = await new Promise((resolve, reject) => {
        const put = request(url, { method: 'PUT', headers: headers(5) }, (answer) => {
          answer.resume().on('end', () => resolve(answer.statusCode))
        })
        put.on('error', reject).end('a,b\n1')
      })
      assert.equal(status, 200)
      assert.equal(String(await stored(key)), 'a,b\n1')
    })

    const refused: Record<
      string,
      (url: string) => { url?: string; headers?: Record<string, string>; body?: string; method?: string }
    > = {
      'another type': () => ({ headers: { 'Content-Type': 'text/html' } }),
      'no type': () => ({ headers: {} }),
      'a longer body': () => ({ body: 'a,b\n12' }),
      'a shorter body': () => ({ body: 'a,b\n' }),
      'another key': (url) => ({ url: url.replace('/upload-', '/upload-x') }),
      'a later end': (url) => ({ url: url.replace('X-Amz-Expires=900', 'X-Amz-Expires=9000') }),
      'another signature': (url) => ({ url: url.replace(/X-Amz-Signature=..../, 'X-Amz-Signature=0000') }),
      reading: () => ({ method: 'GET' }),
      deleting: () => ({ method: 'DELETE' }),
    }
    for (const [what, change] of Object.entries(refused))
      test(`does not allow ${what}`, async () => {
        const { key, url } = await sign(5)
        const { method = 'PUT', body = 'a,b\n1', ...changed } = change(url)
        const answer = await fetch(changed.url ?? url, {
          method,
          headers: changed.headers ?? { 'Content-Type': contentType },
          ...(method === 'PUT' ? { body } : {}),
        })
        await answer.text()
        assert.equal(answer.status, 403)
        assert.equal(await stored(key), undefined)
      })

    test('is over when it has expired', async () => {
      const { key, url } = await sign(5, { now: Date.now() - 20_000, expiresSeconds: 10 })
      const answer = await fetch(url, { method: 'PUT', headers: headers(5), body: 'a,b\n1' })
      assert.equal(answer.status, 403)
      assert.match(await answer.text(), /expired/i)
      assert.equal(await stored(key), undefined)
    })

    test('copies what is there, and says so when nothing is', async () => {
      const { key, url } = await sign(5)
      assert.equal(await s3.staging.copy(key, 'media/ab/none'), false)
      await fetch(url, { method: 'PUT', headers: headers(5), body: 'a,b\n1' })
      assert.equal(await s3.staging.copy(key, 'media/ab/copy'), true)
      await fetch(url, { method: 'PUT', headers: headers(5), body: 'other' })
      assert.equal(String(await stored('media/ab/copy')), 'a,b\n1')
      assert.equal(String(await stored(key)), 'other')
    })
  })
