/**
 * The only place that turns an error into an answer: the JSON envelope of the API, or the XML of S3 on the upload port.
 * A Failure says what it is; anything else is a bug, is logged with its cause, and tells the caller nothing but a trace id.
 */
import type { FastifyBaseLogger, FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { Failure } from '../failure.ts'
import { validationFailure } from './validation.ts'

/** Calls that waiting cannot cure although the SDK would retry their status by itself (contract 0.4). */
const NOT_WORTH_RETRYING = new Set(['download_failed', 'direct_chat', 'chat_unavailable', 'conflict'])

export function envelope(failure: Failure, traceId: string) {
  const { code, status, message, retryAfterSeconds } = failure
  const docUrl = `https://docs.linqapp.com/error/codes/${Math.floor(code / 1000)}xxx/${code}/`
  const retryAfter = retryAfterSeconds === undefined ? {} : { retry_after: retryAfterSeconds }
  return {
    success: false as const,
    error: { status, code, message, doc_url: docUrl, ...retryAfter },
    trace_id: traceId,
  }
}

/** Fastify's error handler for the JSON API. */
export function respondJson(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const failure = toFailure(error)
  logFailure(request.log, failure, error)
  if (NOT_WORTH_RETRYING.has(failure.failure)) reply.header('x-should-retry', 'false')
  const retryAfter = failure.retryAfterSeconds ?? (failure.status === 503 ? 1 : undefined)
  if (retryAfter !== undefined) reply.header('retry-after', String(retryAfter))
  return reply.code(failure.status).type('application/json').send(envelope(failure, request.id))
}

/** S3's error codes for what can happen to an upload; the rest is InternalError. */
export type S3Code =
  | 'AccessDenied'
  | 'SignatureDoesNotMatch'
  | 'IncompleteBody'
  | 'EntityTooLarge'
  | 'NoSuchKey'
  | 'InvalidObjectState'
  | 'MethodNotAllowed'
  | 'RequestTimeout'
  | 'ServiceUnavailable'
  | 'InternalError'

export function s3Xml(code: S3Code, message: string, requestId: string): string {
  return (
    '<?xml version="1.0" encoding="UTF-8"?>\n' +
    `<Error><Code>${code}</Code><Message>${escapeXml(message)}</Message><RequestId>${requestId}</RequestId></Error>`
  )
}

export function toFailure(error: unknown): Failure {
  if (error instanceof Failure) return error
  if (isFastifyError(error)) {
    if (error.validation) return validationFailure(error.validation[0], error.validationContext)
    if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new Failure('bad_body', 'The request body is too large')
    if (error.code === 'FST_ERR_CTP_INVALID_CONTENT_LENGTH') {
      return new Failure('bad_body', 'The request body is not as long as Content-Length says')
    }
    if (error.code === 'FST_ERR_BAD_URL') return new Failure('bad_parameter', 'The URL is not valid')
    if (error.code === 'ECONNRESET') return new Failure('bad_body', 'The request broke off')
  }
  return new Failure('internal', undefined, { cause: error })
}

/** A caller's failure is news at most; ours is an error with its cause. */
export function logFailure(log: FastifyBaseLogger, failure: Failure, error: unknown): void {
  const what = { code: failure.code, status: failure.status }
  if (failure.status >= 500 && failure.failure !== 'download_failed') {
    log.error({ ...what, err: failure.cause ?? error }, failure.message)
  } else log.info(what, failure.message)
}

function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && 'code' in error
}

function escapeXml(text: string): string {
  return text.replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
