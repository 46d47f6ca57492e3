/** What goes over the line to a bucket, and what is made of its refusals: against a host that records and misbehaves. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { after, before, beforeEach, describe, test } from 'node:test'
import { Failure } from '../failure.ts'
import { openS3, type S3 } from './s3.ts'
import { parseS3Location } from './s3-location.ts'

const credentials = { accessKeyId: 'test-access-key', secretAccessKey: 'test-secret-key' }
const unavailable = (error: unknown) => error instanceof Failure && error.code === 3001 && error.status === 503

describe('a bucket', () => {
  let server: Server
  let s3: S3
  let requests: { method: string; url: string; headers: IncomingMessage['headers']; body: Buffer }[] = []
  let answer: (request: IncomingMessage, response: ServerResponse, count: number) => void
  const open = (more = '') => {
    const address = server.address()
    const port = typeof address === 'object' ? address?.port : undefined
    return openS3(
      parseS3Location(`s3://my-bucket?endpoint=http://localhost:${port}&region=eu-west-1${more}`),
      credentials,
    )
  }
  before(async () => {
    server = createServer(async (request, response) => {
      const body = await buffer(request).catch(() => Buffer.alloc(0))
      requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers, body })
      answer(request, response, requests.length)
    }).listen(0)
    await once(server, 'listening')
    s3 = open()
  })
  after(async () => {
    s3.close()
    server.closeAllConnections()
    server.close()
  })
  beforeEach(() => {
    requests = []
    answer = (_, response) => response.end()
  })
  const put = (storage: S3['storage'], size: number) =>
    storage.put('media/ab/key', Readable.from([Buffer.alloc(size, 1)], { objectMode: false }), size)
  const refuse = (status: number, code: string) => (_: IncomingMessage, response: ServerResponse) =>
    response.writeHead(status, { 'content-type': 'application/xml' }).end(`<Error><Code>${code}</Code></Error>`)

  for (const size of [10, 1_000_000])
    test(`gets ${size} bytes without checksums or headers that only AWS knows`, async () => {
      await put(s3.storage, size)
      const [{ method, url, headers, body } = assert.fail()] = requests
      assert.equal(`${method} ${url}`, 'PUT /my-bucket/media/ab/key?x-id=PutObject')
      assert.equal(body.length, size)
      assert.equal(headers['content-length'], String(size))
      assert.equal(headers.expect, undefined)
      assert.equal(headers['content-encoding'], undefined)
      assert.deepEqual(
        Object.keys(headers)
          .filter((name) => name.startsWith('x-amz-'))
          .sort(),
        ['x-amz-content-sha256', 'x-amz-date', 'x-amz-user-agent'],
      )
    })

  test('is asked for encryption at every write', async () => {
    answer = (request, response) =>
      response.end(request.headers['x-amz-copy-source'] ? '<CopyObjectResult><ETag>x</ETag></CopyObjectResult>' : '')
    for (const [more, algorithm, key] of [
      ['&sse=AES256', 'AES256', undefined],
      ['&sse=aws:kms&kms_key=alias/satchel', 'aws:kms', 'alias/satchel'],
    ] as const) {
      requests = []
      const encrypted = open(more)
      await put(encrypted.storage, 10)
      assert.equal(await encrypted.staging.copy('staging/ab/key', 'media/ab/key'), true)
      encrypted.close()
      assert.equal(requests.length, 2)
      assert.equal(requests[1]?.headers['x-amz-copy-source'], 'my-bucket/staging/ab/key')
      for (const { headers } of requests) {
        assert.equal(headers['x-amz-server-side-encryption'], algorithm)
        assert.equal(headers['x-amz-server-side-encryption-aws-kms-key-id'], key)
      }
    }
  })

  test('is asked again when it is busy, a few times, unless the body has passed by', async () => {
    answer = (request, response, count) => {
      if (count < 3) refuse(503, 'SlowDown')(request, response)
      else response.end()
    }
    await put(s3.storage, 10)
    assert.equal(requests.length, 3)
    requests = []
    await s3.storage.delete('media/ab/key')
    assert.equal(requests.length, 3)
    requests = []
    await assert.rejects(put(s3.storage, 1_000_000), unavailable)
    assert.equal(requests.length, 1)
  })

  const refusals: Record<string, [number, string]> = {
    'a broken server': [500, 'InternalError'],
    'keys that are not known': [403, 'InvalidAccessKeyId'],
    'keys that may not': [403, 'AccessDenied'],
    'a bucket that is gone': [404, 'NoSuchBucket'],
    'a clock that is wrong': [403, 'RequestTimeTooSkewed'],
  }
  for (const [what, [status, code]] of Object.entries(refusals))
    test(`${what} is a failure to try again, with its reason for the log only`, async () => {
      answer = refuse(status, code)
      const calls = [
        () => put(s3.storage, 10),
        () => s3.storage.get('a'),
        () => s3.storage.delete('a'),
        () => s3.staging.copy('a', 'b'),
      ]
      for (const call of calls) await assert.rejects(call, unavailable)
      await assert.rejects(async () => {
        for await (const _ of s3.storage.list());
      }, unavailable)
      const error: Failure = await s3.storage.get('a').then(
        () => assert.fail(),
        (failure) => failure,
      )
      assert.equal(error.message, 'Server connection error')
      assert.match(String(error.cause), new RegExp(code))
      assert.doesNotMatch(JSON.stringify(error.cause), /Signature|Credential/)
    })

  test('an answer that is cut off is an error of the reader, not an end', async () => {
    answer = (_, response) => {
      response.writeHead(200, { 'content-length': '1000' }).write(Buffer.alloc(10))
      setTimeout(() => response.destroy(), 20)
    }
    const body = await s3.storage.get('media/ab/key')
    assert.ok(body)
    await assert.rejects(buffer(body))
  })

  test('a reader that leaves closes its connection to the bucket', async () => {
    let closed = () => {}
    const isClosed = new Promise<void>((resolve) => {
      closed = resolve
    })
    answer = (_, response) => {
      response.on('close', closed).writeHead(200, { 'content-length': '1000000' }).write(Buffer.alloc(100_000))
    }
    const body = await s3.storage.get('media/ab/key')
    body?.destroy()
    await isClosed
  })

  test('nobody listens: a failure to try again, within seconds', async () => {
    const nowhere = openS3(parseS3Location('s3://my-bucket?endpoint=http://127.0.0.1:1&region=x'), credentials)
    const began = performance.now()
    await assert.rejects(nowhere.storage.stat('a'), unavailable)
    await assert.rejects(put(nowhere.storage, 10), unavailable)
    assert.ok(performance.now() - began < 5_000)
    nowhere.close()
  })
})
