import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseS3Location } from './s3-location.ts'

const plain = {
  bucket: 'my-bucket',
  endpoint: undefined,
  publicEndpoint: undefined,
  region: undefined,
  pathStyle: false,
  prefix: '',
  sse: undefined,
  kmsKey: undefined,
}
const endpoint = 'http://127.0.0.1:9000'

describe('the URL of a bucket', () => {
  const good: Record<string, object> = {
    's3://my-bucket': {},
    's3://my-bucket/': {},
    's3://my-bucket?region=eu-central-1&path_style=true': { region: 'eu-central-1', pathStyle: true },
    's3://my-bucket?endpoint=http://127.0.0.1:9000/': { endpoint, publicEndpoint: endpoint, pathStyle: true },
    's3://my-bucket?endpoint=http%3A%2F%2F127.0.0.1%3A9000&path_style=false': { endpoint, publicEndpoint: endpoint },
    's3://my-bucket?endpoint=http://127.0.0.1:9000&public_endpoint=https://s3.example.com': {
      endpoint,
      publicEndpoint: 'https://s3.example.com',
      pathStyle: true,
    },
    's3://my-bucket?prefix=/a/B.c/': { prefix: 'a/B.c/' },
    's3://my-bucket?prefix=': {},
    's3://my-bucket?sse=AES256': { sse: 'AES256' },
    's3://my-bucket?sse=aws:kms&kms_key=alias/satchel': { sse: 'aws:kms', kmsKey: 'alias/satchel' },
    's3://files.example.com?region=us-east-1': { bucket: 'files.example.com', region: 'us-east-1' },
  }
  for (const [url, expected] of Object.entries(good))
    test(`${url} is understood`, () => assert.deepEqual(parseS3Location(url), { ...plain, ...expected }))

  const bad: Record<string, RegExp> = {
    's3://': /s3:\/\/BUCKET|name of a bucket/,
    's3:my-bucket': /s3:\/\/BUCKET|name of a bucket/,
    's3://My_Bucket': /name of a bucket/,
    's3://a': /name of a bucket/,
    's3://key:secret@my-bucket': /s3:\/\/BUCKET/,
    's3://my-bucket:9000': /s3:\/\/BUCKET/,
    's3://my-bucket#x': /s3:\/\/BUCKET/,
    's3://my-bucket/folder': /prefix/,
    's3://my-bucket?pathstyle=true': /pathstyle/,
    's3://my-bucket?region=a&region=b': /twice/,
    's3://my-bucket?path_style=yes': /path_style/,
    's3://my-bucket?endpoint=127.0.0.1:9000': /endpoint/,
    's3://my-bucket?endpoint=ftp://host': /endpoint/,
    's3://my-bucket?endpoint=http://user:pass@host': /endpoint/,
    's3://my-bucket?region=EU West': /region/,
    's3://my-bucket?prefix=a//b': /prefix/,
    's3://my-bucket?prefix=a%20b': /prefix/,
    's3://my-bucket?sse=none': /sse/,
    's3://my-bucket?kms_key=alias/x': /kms_key/,
    's3://my-bucket?sse=AES256&kms_key=alias/x': /kms_key/,
  }
  for (const [url, message] of Object.entries(bad))
    test(`${url} is refused with a reason`, () => assert.throws(() => parseS3Location(url), message))
})
