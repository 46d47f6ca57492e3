/**
 * What both ports share: time limits on every connection, a trace id on every answer, one metric and at most one log line a
 * request. Successful requests are logged at debug, since a line a request would cost a third of a small call.
 */
import type { Socket } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, LogController } from 'fastify'
import type { App } from '../app.ts'
import { Failure } from '../failure.ts'
import { newTraceId } from '../ids.ts'
import { noTracer, type Span, type Tracer } from '../telemetry/tracer.ts'
import { RequestLog } from './request-log.ts'
import { envelope } from './respond.ts'

type Done = () => void

export type Door = 'api' | 'edge' | 'health'

/** Milliseconds. Uploads of 100 MB over a slow line need the long one; the idle limit is what stops a dead client. */
const LIMITS = {
  api: { requestTimeout: 30_000, connectionTimeout: 60_000 },
  edge: { requestTimeout: 1_800_000, connectionTimeout: 60_000 },
  health: { requestTimeout: 30_000, connectionTimeout: 60_000 },
} as const
const HEADERS_TIMEOUT_MS = 10_000
const KEEP_ALIVE_MS = 65_000
const LINGER_MS = 2_000
const HEADER_BYTES = 16_384
const API_BODY_BYTES = 8 * 1024 * 1024

export function createServer(app: Pick<App, 'log' | 'metrics' | 'tracer'>, door: Door): FastifyInstance {
  const server = Fastify({
    loggerInstance: app.log as never,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'trace_id' }),
    childLoggerFactory: (parent, bindings) => new RequestLog(parent, bindings),
    genReqId: newTraceId,
    bodyLimit: API_BODY_BYTES,
    requestTimeout: LIMITS[door].requestTimeout,
    connectionTimeout: LIMITS[door].connectionTimeout,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: 'idle',
    http: { maxHeaderSize: HEADER_BYTES, headersTimeout: HEADERS_TIMEOUT_MS, connectionsCheckingInterval: 5_000 },
    routerOptions: { maxParamLength: 4096, ignoreTrailingSlash: door === 'api' },
    clientErrorHandler,
    frameworkErrors: (error, request, reply) => {
      reply.header('X-Trace-ID', request.id)
      void server.errorHandler.call(server, error, request, reply)
    },
    ajv: {
      customOptions: {
        coerceTypes: false,
        removeAdditional: false,
        useDefaults: false,
        discriminator: true,
        allowUnionTypes: true,
      },
    },
  }) as unknown as FastifyInstance

  endQuietConnections(server)
  server.addHook('onRequest', (request: FastifyRequest, reply: FastifyReply, done: Done) => {
    reply.header('X-Trace-ID', request.id)
    done()
  })
  server.addHook('onResponse', (request: FastifyRequest, reply: FastifyReply, done: Done) => {
    const route = request.routeOptions.url ?? 'unknown'
    const ms = reply.elapsedTime
    const labels = { door, route, method: request.method, status: reply.statusCode }
    app.metrics.requests.observe(labels, ms / 1000)
    if (app.log.isLevelEnabled('debug')) request.log.debug({ ...labels, ms: Math.round(ms) }, 'request')
    done()
  })
  traceRequests(server, app.tracer, door)
  return server
}

/** One span a request, which what the handler does belongs to. */
function traceRequests(server: FastifyInstance, tracer: Tracer, door: Door): void {
  if (tracer === noTracer) return
  const spans = new WeakMap<FastifyRequest, Span>()
  server.addHook('onRequest', async (request: FastifyRequest) => {
    const { method, routeOptions } = request
    const route = routeOptions.url ?? 'unknown'
    const attributes = { 'http.request.method': method, 'http.route': route, 'satchel.door': door }
    const span = tracer.start({ name: `${method} ${route}`, kind: 'server', traceId: request.id, attributes })
    spans.set(request, span)
  })
  // Not earlier: the parsing of a body leaves the context that it was begun in.
  server.addHook('preHandler', (request: FastifyRequest, _: FastifyReply, done: () => void) => {
    const span = spans.get(request)
    if (span) tracer.within(span, done)
    else done()
  })
  server.addHook('onResponse', async (request: FastifyRequest, reply: FastifyReply) => {
    const span = spans.get(request)
    span?.set({ 'http.response.status_code': reply.statusCode })
    span?.end(reply.statusCode >= 500 ? new Error('5xx') : undefined)
  })
}

/**
 * Once the server closes, a connection ends as soon as nothing is under way on it. Node by itself waits for connections
 * that never had a request, and for the keep-alive time of those whose last answer was still on its way.
 */
function endQuietConnections(server: FastifyInstance): void {
  const quiet = new Set<Socket>()
  let isClosing = false
  server.server.on('connection', (socket: Socket) => {
    if (isClosing) socket.destroy()
    quiet.add(socket)
    socket.once('close', () => quiet.delete(socket))
  })
  server.addHook('onRequest', ({ raw: { socket } }: FastifyRequest, reply: FastifyReply, done: Done) => {
    quiet.delete(socket)
    reply.raw.once('close', () => {
      if (isClosing) socket.destroySoon()
      else if (!socket.destroyed) quiet.add(socket)
    })
    done()
  })
  server.addHook('preClose', async () => {
    isClosing = true
    for (const socket of quiet) socket.destroy()
  })
}

/** What the HTTP parser itself refuses, before there is a request: said in the API's words, then the line is closed. */
function clientErrorHandler(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const failure = parserFailure(error.code)
  const traceId = newTraceId()
  const body = JSON.stringify(envelope(failure, traceId))
  socket.end(
    `HTTP/1.1 ${failure.status} Refused\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `X-Trace-ID: ${traceId}\r\nConnection: close\r\n\r\n${body}`,
  )
  // Time to read that; a client that only sends would keep its half of the connection for ever.
  setTimeout(() => socket.destroy(), LINGER_MS).unref()
}

function parserFailure(code: string | undefined): Failure {
  if (code === 'HPE_HEADER_OVERFLOW')
    return new Failure('headers_too_large', `Headers may have ${HEADER_BYTES} bytes in all`)
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return new Failure('request_timeout')
  return new Failure('bad_body', 'This is not a valid HTTP request')
}
