/**
 * The URL that names a bucket: s3://BUCKET?endpoint=…&region=… . Pure. Parameters, all optional:
 *   endpoint, public_endpoint   an S3 that is not AWS, and how clients reach it where that differs
 *   region                      default: what the AWS environment says, else us-east-1
 *   path_style                  true or false; default: true with an endpoint of one's own
 *   prefix                      what every key begins with, so that a bucket can be shared
 *   sse, kms_key                AES256 or aws:kms, asked for at every write of ours
 */
export type S3Location = {
  readonly bucket: string
  readonly endpoint: string | undefined
  /** Only in upload URLs; the same as `endpoint` where nothing else is said. */
  readonly publicEndpoint: string | undefined
  readonly region: string | undefined
  readonly pathStyle: boolean
  /** Empty, or ends in a slash. */
  readonly prefix: string
  readonly sse: 'AES256' | 'aws:kms' | undefined
  readonly kmsKey: string | undefined
}

export type S3Credentials = {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

const PARAMETERS = ['endpoint', 'public_endpoint', 'region', 'path_style', 'prefix', 'sse', 'kms_key']

/** Throws Error with one sentence for the operator. */
export function parseS3Location(text: string): S3Location {
  const url = URL.parse(text)
  if (url?.protocol !== 's3:' || url.username || url.password || url.hash || url.port) {
    throw new Error('must be s3://BUCKET and parameters like ?endpoint=https://…&region=….')
  }
  const bucket = url.host
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket)) throw new Error(`"${bucket}" is not the name of a bucket.`)
  if (url.pathname !== '' && url.pathname !== '/') throw new Error('a folder in the bucket is given by prefix=.')
  const given = url.searchParams
  for (const name of given.keys()) {
    if (!PARAMETERS.includes(name)) throw new Error(`"${name}" is not one of the parameters ${PARAMETERS.join(', ')}.`)
    if (given.getAll(name).length > 1) throw new Error(`${name} is given twice.`)
  }
  const get = (name: string) => given.get(name) || undefined
  const endpoint = parseEndpoint('endpoint', get('endpoint'))
  return {
    bucket,
    endpoint,
    publicEndpoint: parseEndpoint('public_endpoint', get('public_endpoint')) ?? endpoint,
    region: match('region', get('region'), /^[a-z0-9-]{1,40}$/),
    pathStyle: (match('path_style', get('path_style'), /^(true|false)$/) ?? String(endpoint !== undefined)) === 'true',
    prefix: parsePrefix(get('prefix')),
    ...parseEncryption(get('sse'), get('kms_key')),
  }
}

function match(name: string, value: string | undefined, pattern: RegExp): string | undefined {
  if (value !== undefined && !pattern.test(value)) throw new Error(`${name} cannot be "${value}".`)
  return value
}

function parseEndpoint(name: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined
  const url = URL.parse(value)
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.search || url.hash || url.username || url.password) {
    throw new Error(`${name} must be an http or https URL without query, fragment or user.`)
  }
  return url.href.replace(/\/+$/, '')
}

function parsePrefix(value: string | undefined): string {
  const prefix = match('prefix', value?.replace(/^\/+|\/+$/g, ''), /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/)
  return prefix ? `${prefix}/` : ''
}

function parseEncryption(sse: string | undefined, kmsKey: string | undefined): Pick<S3Location, 'sse' | 'kmsKey'> {
  if (sse !== undefined && sse !== 'AES256' && sse !== 'aws:kms') throw new Error('sse must be AES256 or aws:kms.')
  if (kmsKey !== undefined && sse !== 'aws:kms') throw new Error('kms_key needs sse=aws:kms.')
  return { sse, kmsKey }
}
