/** Known answers come from the AWS documentation and from the AWS SDK, which is asked afresh in every run. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { presign, type Verified, verifyPresigned } from './sigv4.ts'

const key = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  region: 'us-east-1',
} as const

const now = Date.UTC(2026, 1, 16, 12, 30, 0)
const upload = {
  method: 'PUT',
  url: 'https://uploads.example.com/uploads/550e8400-e29b-41d4-a716-446655440000',
  headers: { 'content-type': 'image/jpeg', 'content-length': '245760' },
  now,
  expiresSeconds: 900,
}

describe('presign', () => {
  test('makes the signature of the example in the AWS documentation', () => {
    const url = presign(key, {
      method: 'GET',
      url: 'https://examplebucket.s3.amazonaws.com/test.txt',
      headers: {},
      now: Date.UTC(2013, 4, 24),
      expiresSeconds: 86400,
    })
    const query = new URL(url).searchParams
    assert.equal(query.get('X-Amz-Signature'), 'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404')
    assert.equal(query.get('X-Amz-Credential'), 'AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request')
  })

  const names = [
    'photo.jpg',
    'a b+c&d=e;f,g:h@i$j.txt',
    "it's (1) [final]!*~.jpg",
    'Grüße/日本語/🎉 e\u0301.png',
    '100%25.txt',
    '%zz/../.hidden/./x//y',
    'quo"te\\back<slash>.txt',
  ]
  const types = ['image/jpeg', 'text/plain; charset=utf-8', 'multipart/x;  boundary="a  b"']
  for (const endpoint of ['https://s3.example.com', 'http://127.0.0.1:9000', 'https://[::1]:8443'])
    test(`agrees byte for byte with the AWS SDK at ${endpoint}`, async () => {
      const client = new S3Client({
        endpoint,
        region: key.region,
        forcePathStyle: true,
        credentials: key,
        requestChecksumCalculation: 'WHEN_REQUIRED',
      })
      const options = { signingDate: new Date(now), expiresIn: 900 }
      for (const [i, name] of names.entries()) {
        const contentType = types[i % types.length] ?? ''
        const put = await getSignedUrl(
          client,
          new PutObjectCommand({ Bucket: 'bucket', Key: name, ContentType: contentType, ContentLength: 7 }),
          { ...options, signableHeaders: new Set(['host', 'content-type', 'content-length']) },
        )
        const headers = { 'content-type': contentType, 'content-length': '7' }
        assert.equal(presign(key, { ...upload, url: unsigned(put), headers }), put)

        const get = await getSignedUrl(
          client,
          new GetObjectCommand({ Bucket: 'bucket', Key: name, ResponseContentDisposition: `attachment; x="${name}"` }),
          options,
        )
        assert.match(get, /response-content-disposition/)
        assert.equal(presign(key, { ...upload, method: 'GET', url: unsigned(get), headers: {} }), get)
      }
      client.destroy()
    })

  test('signs a URL object like its text, without default port and in lower case', () => {
    const plain = presign(key, upload)
    assert.equal(presign(key, { ...upload, url: new URL(upload.url) }), plain)
    assert.equal(
      presign(key, { ...upload, url: upload.url.replace('uploads.example.com', 'Uploads.Example.COM:443') }),
      plain,
    )
  })

  test('refuses spans beyond a week, URLs signed before and URLs with user or fragment', () => {
    for (const expiresSeconds of [0, -1, 1.5, 604801, Number.NaN])
      assert.throws(() => presign(key, { ...upload, expiresSeconds }), RangeError)
    for (const url of [
      presign(key, upload),
      'https://u:p@h/',
      'https://h/#x',
      'ftp://h/',
      '/path',
      'https://bücher.example/',
    ])
      assert.throws(() => presign(key, { ...upload, url }), TypeError)
  })

  test('derives another key for another day, region and secret', () => {
    const signature = (k: typeof key | { secretAccessKey: string }, at = now) =>
      new URL(presign({ ...key, ...k }, { ...upload, now: at })).searchParams.get('X-Amz-Signature')
    const all = [signature(key), signature(key, now + 86_400_000), signature({ secretAccessKey: 'other' })]
    assert.equal(new Set(all).size, 3)
    for (let day = 0; day < 40; day++) presign(key, { ...upload, now: now + day * 86_400_000 })
    assert.equal(signature(key), all[0])
  })
})

describe('verifyPresigned', () => {
  const signed = presign(key, upload)
  const headers = { ...upload.headers, host: 'uploads.example.com', 'user-agent': 'curl' }
  const mustSign = ['content-type', 'content-length']
  type Change = Partial<Parameters<typeof verifyPresigned>[1]> & { url?: string }
  const check = ({ url = signed, ...change }: Change = {}, k = key as Parameters<typeof verifyPresigned>[0]) =>
    verifyPresigned(k, { method: 'PUT', path: target(url), headers, now: now + 1000, mustSign, ...change })
  const reason = (verified: Verified) => (verified.ok ? 'ok' : verified.reason)
  /** The signed URL with one parameter changed and nothing signed anew. */
  const tampered = (name: string, value: string | undefined) => {
    const url = new URL(signed)
    if (value === undefined) url.searchParams.delete(name)
    else url.searchParams.set(name, value)
    return url.href
  }

  test('accepts what presign made and says until when', () => {
    assert.deepEqual(check(), {
      ok: true,
      expiresAt: now + 900_000,
      signedHeaders: ['content-length', 'content-type', 'host'],
    })
  })

  test('accepts the URLs of the AWS SDK', async () => {
    const client = new S3Client({ endpoint: 'https://s3.example.com', region: key.region, credentials: key })
    const url = await getSignedUrl(client, new PutObjectCommand({ Bucket: 'b', Key: 'ü (1).txt' }), {
      signingDate: new Date(now),
    })
    const host = new URL(url).host
    assert.equal(reason(check({ url, headers: { host }, mustSign: [] })), 'ok')
    client.destroy()
  })

  test('accepts another spelling of the same path and query', () => {
    const url = presign(key, { ...upload, url: 'https://uploads.example.com/a%20(1)/%41.jpg?b=1&a=x+y' })
    assert.match(url, /\/a%20%281%29\/A\.jpg\?.*&a=x%20y&b=1$/)
    const respelled = url.replace('%281%29', '(1)').replace('/A.jpg', '/%41.jpg').replace('%2F2026', '/2026')
    assert.equal(reason(check({ url: respelled })), 'ok')
    const reordered = url.replace('&a=x%20y&b=1', '').replace('?', '?b=1&a=x+y&')
    assert.equal(reason(check({ url: reordered })), 'ok')
  })

  test('an encoded slash is not a slash', () => {
    const url = presign(key, { ...upload, url: 'https://uploads.example.com/a/b' })
    assert.equal(reason(check({ url: url.replace('/a/b', '/a%2Fb') })), 'signature')
  })

  test('refuses another method, path, host, signed header or added parameter', () => {
    for (const change of [
      { method: 'GET' },
      { url: signed.replace('440000', '440001') },
      { url: `${signed}&x-id=PutObject` },
      { headers: { ...headers, host: 'uploads.example.com:8443' } },
      { headers: { ...headers, 'content-type': 'text/html' } },
      { headers: { ...headers, 'content-length': '245761' } },
    ])
      assert.equal(reason(check(change)), 'signature')
    assert.equal(reason(check({}, { ...key, secretAccessKey: 'other' })), 'signature')
  })

  test('names a signed header that is missing, and no value', () => {
    const { 'content-type': _, ...rest } = headers
    assert.deepEqual(check({ headers: rest }), {
      ok: false,
      reason: 'signature',
      detail: 'The signed header content-type is missing',
    })
    assert.equal(reason(check({ headers: { host: 'uploads.example.com' } })), 'signature')
  })

  test('refuses signatures of other form', () => {
    for (const value of ['', 'x', 'A'.repeat(64), 'é'.repeat(64), '0'.repeat(64), '0'.repeat(65)])
      assert.equal(reason(check({ url: tampered('X-Amz-Signature', value) })), 'signature')
  })

  test('refuses a query that lacks one of the six parameters', () => {
    for (const name of ['Algorithm', 'Credential', 'Date', 'Expires', 'SignedHeaders', 'Signature'])
      assert.equal(reason(check({ url: tampered(`X-Amz-${name}`, undefined) })), 'missing', name)
    assert.equal(reason(check({ path: '/uploads/x' })), 'missing')
    assert.equal(reason(check({ path: '/uploads/x?' })), 'missing')
  })

  test('refuses duplicates in any spelling', () => {
    for (const extra of ['X-Amz-Expires=900', 'X-Amz-%45xpires=900', 'a=1&a=1'])
      assert.equal(reason(check({ url: `${signed}&${extra}` })), 'malformed', extra)
  })

  test('refuses malformed parameters before it looks at the signature', () => {
    const scope = (text: string) => ['X-Amz-Credential', `${key.accessKeyId}/${text}`]
    for (const [name = '', value = ''] of [
      ['X-Amz-Algorithm', 'AWS4-HMAC-SHA1'],
      ['X-Amz-Date', '2026-02-16T12:30:00Z'],
      ['X-Amz-Date', '20260230T123000Z'],
      ['X-Amz-Date', '20260216T250000Z'],
      ['X-Amz-Date', '20260217T123000Z'],
      ...['0', '-1', '+900', '0900', '9e2', '900.0', '604801', '99999999999', ''].map((n) => ['X-Amz-Expires', n]),
      scope('20260215/us-east-1/s3/aws4_request'),
      scope('20260216/us-east-1/s3/aws5_request'),
      scope('20260216/us-east-1/s3'),
      scope('20260216/us-east-1/s3/aws4_request/more'),
      ['X-Amz-SignedHeaders', 'content-length;content-type'],
      ['X-Amz-SignedHeaders', 'host;content-type;content-length'],
      ['X-Amz-SignedHeaders', 'content-length;content-type;host;host'],
      ['X-Amz-SignedHeaders', 'Content-Length;content-type;host'],
      ['X-Amz-SignedHeaders', 'content-length;content-type;host;'],
      ['X-Amz-SignedHeaders', ''],
    ])
      assert.equal(reason(check({ url: tampered(name, value) })), 'malformed', `${name}=${value}`)
    for (const path of ['/x?a=%zz', '/x?a=%', '/%ff?a=1', 'http://h/x?a=1', '*?a=1'])
      assert.equal(reason(check({ path })), 'malformed', path)
  })

  test('refuses another access key, region and service', () => {
    for (const scope of ['OTHER/20260216/us-east-1/s3', `${key.accessKeyId}/20260216/eu-west-1/s3`])
      assert.equal(reason(check({ url: tampered('X-Amz-Credential', `${scope}/aws4_request`) })), 'wrong_key')
    const sqs = `${key.accessKeyId}/20260216/us-east-1/sqs/aws4_request`
    assert.equal(reason(check({ url: tampered('X-Amz-Credential', sqs) })), 'wrong_key')
  })

  test('demands the headers the caller must have signed', () => {
    const url = presign(key, { ...upload, headers: { 'content-type': 'image/jpeg' } })
    assert.equal(reason(check({ url, mustSign: ['content-type'] })), 'ok')
    assert.deepEqual(check({ url }), {
      ok: false,
      reason: 'malformed',
      detail: 'The header content-length must be signed',
    })
  })

  test('is good up to and including its last instant, and no longer', () => {
    assert.equal(reason(check({ now: now + 900_000 })), 'ok')
    assert.equal(reason(check({ now: now + 900_001 })), 'expired')
    assert.equal(reason(check({ now: now + 10 * 365 * 86_400_000 })), 'expired')
  })

  test('accepts a date at most 15 minutes ahead', () => {
    assert.equal(reason(check({ now: now - 900_000 })), 'ok')
    assert.equal(reason(check({ now: now - 900_001 })), 'not_yet_valid')
  })

  test('says that a URL has expired only to who has the true one', () => {
    const forged = tampered('X-Amz-Signature', '0'.repeat(64))
    assert.equal(reason(check({ url: forged, now: now + 900_001 })), 'signature')
    assert.equal(reason(check({ url: tampered('X-Amz-Expires', '604800'), now: now + 900_001 })), 'signature')
  })
})

/** A presigned URL without what the signing added. */
function unsigned(url: string): string {
  const added = /^X-Amz-(Algorithm|Credential|Date|Expires|SignedHeaders|Signature)=/
  const [base = '', query = ''] = url.split('?')
  const kept = query.split('&').filter((pair) => !added.test(pair))
  return kept.length > 0 ? `${base}?${kept.join('&')}` : base
}

const target = (url: string) => url.replace(/^https?:\/\/[^/]+/, '')
