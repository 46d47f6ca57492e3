/**
 * The presigned PUT, as S3 would take it: the signature in the query is the authority, the body is opaque bytes whatever
 * its type, errors are S3's XML. Answers preflights, since browsers upload directly.
 */
import type { Readable } from 'node:stream'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { App } from '../app.ts'
import { type AttachmentRow, findAttachment } from '../attachments/rows.ts'
import { logFailure, type S3Code, s3Xml, toFailure } from '../http/respond.ts'
import { isUuid } from '../ids.ts'
import { verifyPresigned } from '../sigv4.ts'
import { BodyTooLong, BodyTooShort } from '../storage/storage.ts'
import { receiveUpload } from './receive.ts'

const STATUS: Record<S3Code, number> = {
  AccessDenied: 403,
  SignatureDoesNotMatch: 403,
  IncompleteBody: 400,
  EntityTooLarge: 400,
  NoSuchKey: 404,
  InvalidObjectState: 409,
  MethodNotAllowed: 405,
  RequestTimeout: 400,
  ServiceUnavailable: 503,
  InternalError: 500,
}

const PREFLIGHT = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Allow-Methods': 'PUT',
  'Access-Control-Allow-Headers': '*',
  'Access-Control-Max-Age': '86400',
}

/** How much of a refused body is read away, and for how long, so that the client gets to see the refusal. */
const DISCARD_BYTES = 128 * 1024 * 1024
const DISCARD_MS = 30_000

/** A refusal in S3's words. */
class Refused extends Error {
  readonly s3: S3Code
  constructor(s3: S3Code, message: string) {
    super(message)
    this.s3 = s3
  }
}

export function uploadRoutes(app: App): FastifyPluginAsync {
  return async (edge) => {
    const errorHandler = (error: Error, request: FastifyRequest, reply: FastifyReply) =>
      refuse(request, reply, new Refused('SignatureDoesNotMatch', error.message), isBodyComing(request))
    edge.put<{ Params: { id: string } }>('/uploads/:id', { errorHandler }, async (request, reply) => {
      reply.header('Access-Control-Allow-Origin', '*').header('Access-Control-Expose-Headers', 'ETag, X-Trace-ID')
      let isComing = isBodyComing(request)
      try {
        const row = await authorize(app, request)
        if (app.sandbox?.faults.take('upload_forbidden', row.partner_id, { attachment_id: row.id })) {
          throw new Refused('AccessDenied', 'Access Denied')
        }
        if (!isComing) reply.raw.writeContinue()
        isComing = true
        const received = await receiveUpload(app, row, request.raw, abortOnClose(reply))
        if (received.outcome === 'gone') throw new Refused('NoSuchKey', 'The attachment does not exist')
        if (received.outcome === 'changed') {
          throw new Refused('InvalidObjectState', 'The attachment is complete and its bytes cannot be replaced')
        }
        return reply.code(200).header('ETag', `"${received.md5}"`).send()
      } catch (error) {
        return refuse(request, reply, error, isComing)
      }
    })

    edge.options('/uploads/:id', async (_, reply) => reply.code(204).headers(PREFLIGHT).send())

    edge.route({
      method: ['GET', 'HEAD', 'POST', 'PATCH', 'DELETE'],
      url: '/uploads/:id',
      handler: (request, reply) =>
        refuse(
          request,
          reply.header('Allow', 'PUT, OPTIONS'),
          new Refused('MethodNotAllowed', 'Only PUT is possible here'),
          isBodyComing(request),
        ),
    })
  }
}

/**
 * The attachment that the signed request may fill. Content-Type is compared without regard to case and surrounding blanks,
 * everything else letter for letter. An unknown attachment shows only to a bearer of a true signature.
 */
async function authorize(app: App, request: FastifyRequest<{ Params: { id: string } }>): Promise<AttachmentRow> {
  const { id } = request.params
  const { headers } = request
  const row = isUuid(id) ? await findAttachment(app.db, id.toLowerCase()) : undefined
  const signed = row ? { 'content-type': row.declared_type, 'content-length': String(row.size_bytes) } : {}
  const { host, prefix } = asCallersKnowUs(app)
  const verified = verifyPresigned(app.signingKey, {
    method: 'PUT',
    path: `${prefix}${request.raw.url}`,
    headers: { ...headers, ...signed, host },
    now: app.clock.now(),
    mustSign: ['content-type', 'content-length'],
  })
  if (!verified.ok) {
    if (verified.reason === 'expired') throw new Refused('AccessDenied', 'Request has expired')
    throw new Refused(verified.reason === 'missing' ? 'AccessDenied' : 'SignatureDoesNotMatch', verified.detail)
  }
  if (!row) throw new Refused('NoSuchKey', 'The attachment does not exist')
  if (app.clock.now() > row.upload_expires_at) throw new Refused('AccessDenied', 'Request has expired')
  if (headers['content-type']?.trim().toLowerCase() !== row.declared_type.trim().toLowerCase()) {
    throw new Refused('SignatureDoesNotMatch', 'The header Content-Type is not the one that was signed')
  }
  const length = headers['content-length']
  if (length === undefined ? !headers['transfer-encoding'] : length !== String(row.size_bytes)) {
    throw new Refused('SignatureDoesNotMatch', 'The header Content-Length is not the one that was signed')
  }
  return row
}

let known = { url: '', host: '', prefix: '' }

/** A proxy may have told us another Host, and taken a prefix off the path. Taken apart once, not for every upload. */
function asCallersKnowUs({ urls }: App): { host: string; prefix: string } {
  if (known.url !== urls.cdn) {
    const { host, pathname } = new URL(urls.cdn)
    known = { url: urls.cdn, host, prefix: pathname.replace(/\/$/, '') }
  }
  return known
}

/** A client that says "Expect: 100-continue" holds its body back until it is told to go on. */
const isBodyComing = (request: FastifyRequest): boolean => request.headers.expect === undefined

function refuse(request: FastifyRequest, reply: FastifyReply, error: unknown, isComing: boolean): FastifyReply {
  const { code, message } = s3Error(request, error)
  request.log.info({ s3: code }, `upload refused: ${message}`)
  if (isComing) discardBody(request.raw)
  else reply.header('Connection', 'close')
  return reply
    .code(STATUS[code])
    .type('application/xml')
    .send(s3Xml(code, message, request.id))
}

function s3Error(request: FastifyRequest, error: unknown): { code: S3Code; message: string } {
  if (error instanceof Refused) return { code: error.s3, message: error.message }
  if (error instanceof BodyTooShort) return { code: 'IncompleteBody', message: error.message }
  if (error instanceof BodyTooLong) return { code: 'EntityTooLarge', message: error.message }
  const failure = toFailure(error)
  logFailure(request.log, failure, error)
  return { code: failure.status === 503 ? 'ServiceUnavailable' : 'InternalError', message: failure.message }
}

/**
 * Reads the rest of a refused body away, to a limit, and lets the connection live meanwhile: Node ends one marked "close"
 * with the answer, and a client that is still sending would get a reset in its place.
 */
function discardBody(body: Readable): void {
  if (body.readableEnded || body.destroyed) return
  let discarded = 0
  const timer = setTimeout(() => body.destroy(), DISCARD_MS).unref()
  body.on('data', (chunk: Buffer) => {
    discarded += chunk.length
    if (discarded > DISCARD_BYTES) body.destroy()
  })
  body.once('close', () => clearTimeout(timer))
  body.on('error', () => {})
  body.resume()
}

/** Aborts when the client goes away before it has an answer. */
export function abortOnClose(reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort(new BodyTooShort('the client went away'))
  })
  return controller.signal
}
