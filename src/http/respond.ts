/**
 * The only place that turns an error into an answer: the JSON envelope of the API, or the XML of S3 on the upload port.
 * A Failure says what it is; anything else is a bug, is logged with its cause, and tells the caller nothing but a trace id.
 */
import type { FastifyBaseLogger, FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { Failure, type FailureName } from '../failure.ts'
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
  // Fastify ends the line when a body is too large; the bytes on their way would then reset it and hide this answer.
  reply.removeHeader('connection')
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

/** What Fastify refuses by itself, before a route runs. */
const FASTIFY_REFUSALS: Record<string, readonly [FailureName, string]> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['bad_body', 'The request body is too large'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['bad_body', 'The request body is not as long as Content-Length says'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ['bad_body', 'The Content-Type header is not valid'],
  FST_ERR_BAD_URL: ['bad_parameter', 'The URL is not valid'],
  FST_ERR_MAX_PARAM_LENGTH: ['bad_parameter', 'The URL has a segment that is too long'],
  ECONNRESET: ['bad_body', 'The request broke off'],
}

export function toFailure(error: unknown): Failure {
  if (error instanceof Failure) return error
  if (isFastifyError(error)) {
    if (error.validation) return validationFailure(error.validation[0], error.validationContext)
    const refusal = FASTIFY_REFUSALS[error.code]
    if (refusal) return new Failure(...refusal)
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
