/**
 * Fetches a file from a URL that somebody gave us: https only, redirects followed by hand with every hop checked anew,
 * bytes counted as they pass, one deadline over all. Nothing of ours goes along: no cookies, credentials or referrer.
 */
import { Readable } from 'node:stream'
import type { Agent, Dispatcher } from 'undici'
import { Failure } from '../failure.ts'
import type { EgressAllow } from './address.ts'
import { type Deadline, startDeadline } from './deadline.ts'
import { checkUrl, send } from './dial.ts'
import { RemoteError, toRemoteError } from './error.ts'

export type DownloadOptions = {
  maxBytes: number
  /** For everything together: name lookup, connecting, all redirects, and the body up to its last byte. */
  timeoutMs: number
  signal?: AbortSignal
  /** The Accept header; any type when absent. */
  accept?: string
  /** What to call the URL in messages to the caller, such as `message.parts[0].url`; `url` when absent. */
  field?: string
}

export type Download = {
  status: number
  /** As sent, parameters included. */
  contentType?: string
  /** Bytes, when the host announced them. */
  contentLength?: number
  /** Where the redirects ended. May hold a secret in its query: not for the log. */
  finalUrl: string
  /**
   * At least one and at most `maxBytes` bytes, else it fails with a Failure. Read it to its end or destroy it; left alone it
   * ends with the deadline.
   */
  body: Readable
}

const MAX_REDIRECTS = 5
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/**
 * Resolves when the headers of the final answer are in. Throws Failure (and so does the body):
 * `bad_parameter` for a URL that is not https, not a URL, with credentials, or leading to an address that is not public;
 * `file_too_large`; `download_failed` for everything the host can do wrong. With an aborted `signal`: its reason.
 */
export async function download(
  o: { agent: Agent; allow: EgressAllow; userAgent: string },
  url: string,
  options: DownloadOptions,
): Promise<Download> {
  const field = options.field ?? 'url'
  const deadline = startDeadline(options.timeoutMs, options.signal)
  const headers = { 'user-agent': o.userAgent, accept: options.accept ?? '*/*', 'accept-encoding': 'identity' }
  const explain = (error: unknown) => (options.signal?.aborted ? options.signal.reason : toFailure(error, field))
  try {
    let target = parseGivenUrl(url, field)
    for (let redirects = 0; ; redirects++) {
      checkUrl(o.allow, target)
      const response = await send(o.agent, target, { method: 'GET', headers }, deadline)
      try {
        if (!REDIRECTS.has(response.statusCode))
          return receive(response, target, { ...options, field, deadline, explain })
        if (redirects === MAX_REDIRECTS) throw failed(field, `it redirected more than ${MAX_REDIRECTS} times`)
        target = parseLocation(one(response.headers.location), target, field)
        response.body.destroy()
      } catch (error) {
        response.body.destroy()
        throw error
      }
    }
  } catch (error) {
    deadline.cancel()
    throw explain(error)
  }
}

function parseGivenUrl(url: string, field: string): URL {
  const parsed = URL.parse(url)
  if (!parsed) throw new Failure('bad_parameter', `${field} is not a valid URL`)
  if (parsed.protocol !== 'https:') throw new Failure('bad_parameter', `${field} must be an https URL`)
  if (parsed.username !== '' || parsed.password !== '')
    throw new Failure('bad_parameter', `${field} must not contain a user name or password`)
  return parsed
}

function parseLocation(location: string | undefined, from: URL, field: string): URL {
  if (location === undefined) throw failed(field, 'it redirected without saying where to')
  const parsed = URL.parse(location, from.href)
  if (!parsed) throw failed(field, 'it redirected to something that is not a URL')
  if (parsed.protocol !== 'https:') throw failed(field, 'it redirected to a URL that is not https')
  if (parsed.username !== '' || parsed.password !== '') throw failed(field, 'it redirected to a URL with credentials')
  return parsed
}

type Receiving = DownloadOptions & { field: string; deadline: Deadline; explain: (error: unknown) => Error }

/** Judges the headers of the final answer. */
function receive({ statusCode, headers, body }: Dispatcher.ResponseData, url: URL, o: Receiving): Download {
  if (statusCode < 200 || statusCode > 299 || statusCode === 206)
    throw failed(o.field, `the host answered ${statusCode}`)
  if (!/^(identity)?$/i.test(one(headers['content-encoding']) ?? ''))
    throw failed(o.field, 'the host sent it compressed although that was not asked for')
  const length = one(headers['content-length'])
  const contentLength = length === undefined ? undefined : Number(length)
  if (statusCode === 204 || statusCode === 205) throw failed(o.field, 'the host answered without content')
  if (contentLength !== undefined && contentLength > o.maxBytes) throw tooLarge(o)
  const contentType = one(headers['content-type'])
  return {
    status: statusCode,
    ...(contentType === undefined ? {} : { contentType }),
    ...(contentLength === undefined ? {} : { contentLength }),
    finalUrl: url.href,
    body: counted(body, contentLength, o),
  }
}

/** The bytes of `source`, one small buffer ahead of the reader, with the promises of Download.body. */
function counted(source: Readable, contentLength: number | undefined, o: Receiving): Readable {
  let received = 0
  const body = new Readable({
    highWaterMark: 64 * 1024,
    read: () => void source.resume(),
    destroy(error, done) {
      o.deadline.cancel()
      source.destroy()
      done(error)
    },
  })
  // A reader that has gone away must not turn the deadline into an uncaught exception.
  body.on('error', () => {})
  source.on('data', (chunk: Buffer) => {
    received += chunk.length
    if (received > o.maxBytes) body.destroy(tooLarge(o))
    else if (!body.push(chunk)) source.pause()
  })
  source.on('end', () => {
    o.deadline.cancel()
    if (contentLength !== undefined && received !== contentLength) body.destroy(o.explain(new RemoteError('network')))
    else body.push(null)
  })
  source.on('error', (error) => body.destroy(o.explain(error)))
  return body
}

const failed = (field: string, what: string, cause?: unknown) =>
  new Failure('download_failed', `${field} could not be downloaded: ${what}`, { cause })

const tooLarge = (o: Receiving) => new Failure('file_too_large', `${o.field} is larger than ${o.maxBytes} bytes`)

function toFailure(error: unknown, field: string): Failure {
  if (error instanceof Failure) return error
  const remote = toRemoteError(error)
  if (remote.kind === 'forbidden')
    return new Failure('bad_parameter', `${field} must lead to a public address`, { cause: remote })
  return failed(field, remote.message, remote)
}

/** A header that came several times counts with its first value. */
const one = (value: string | string[] | undefined) => (typeof value === 'object' ? value[0] : value)
