/**
 * The JSON API: authentication, bodies, errors, 404 and 405, both base paths, the OpenAPI document and its page, health and
 * metrics. Knows no resource; the rooms bring their routes.
 */
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import type { TSchema } from 'typebox'
import type { App } from '../app.ts'
import type { Faults } from '../carriers/sandbox/faults.ts'
import { Failure, failureOfCode } from '../failure.ts'
import { authenticator } from './auth.ts'
import { healthRoutes } from './health.ts'
import { parseJsonBody } from './json-body.ts'
import { respondJson } from './respond.ts'
import { ErrorBody } from './schemas.ts'
import { createServer } from './server.ts'

/** The vendor's public path, and the bare one that the SDKs' own test suites use. */
const BASE_PATHS = ['/api/partner/v3', '/v3'] as const

/** `apart`: routes with an API key that are not part of the vendor's API, under their own prefix. */
export type Rooms = {
  routes: readonly FastifyPluginAsync[]
  apart: Readonly<Record<string, readonly FastifyPluginAsync[]>>
  schemas: readonly TSchema[]
  version: string
}

export async function createApi(app: App, rooms: Rooms): Promise<FastifyInstance> {
  const api = createServer(app, 'api')
  const methodsOf = rememberRoutes(api)
  const authenticate = authenticator(app.db)
  api.setErrorHandler(respondJson)
  api.setSerializerCompiler(() => JSON.stringify)
  api.removeAllContentTypeParsers()
  api.addContentTypeParser('*', { parseAs: 'buffer' }, async (_: unknown, body: Buffer) => parseJsonBody(body))
  api.decorateRequest('partnerId', '')
  for (const schema of [ErrorBody, ...rooms.schemas]) api.addSchema(schema)

  await api.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Satchel', version: rooms.version, description: ABOUT },
      servers: [{ url: '/' }],
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
      security: [{ bearer: [] }],
    },
    refResolver: { buildLocalReference: (json, _, __, index) => String(json.$id ?? `def-${index}`) },
  })
  await api.register(swaggerUi, {
    routePrefix: '/docs',
    theme: { title: 'Satchel API' },
    uiConfig: { layout: 'BaseLayout' },
  })

  for (const prefix of BASE_PATHS) {
    await api.register(
      async (v3) => {
        v3.addHook('onRequest', authenticate)
        if (app.sandbox) addFaults(v3, app.sandbox.faults)
        if (prefix !== BASE_PATHS[0])
          v3.addHook('onRoute', (route) => {
            route.schema = { ...route.schema, hide: true }
          })
        for (const routes of rooms.routes) await v3.register(routes)
      },
      { prefix },
    )
  }

  for (const [prefix, rooms_] of Object.entries(rooms.apart)) {
    await api.register(
      async (apart) => {
        apart.addHook('onRequest', authenticate)
        for (const routes of rooms_) await apart.register(routes)
      },
      { prefix },
    )
  }

  api.get('/openapi.json', { schema: { hide: true } }, async () => api.swagger())
  await api.register(healthRoutes(app))

  // A hook and no handler, since a handler would only be asked after the body was read and found good.
  api.addHook('onRequest', (request, reply, done) => {
    if (!request.is404) {
      done()
      return
    }
    const path = request.url.split('?', 1)[0] ?? ''
    const allowed = methodsOf(path)
    const methods = allowed.join(', ')
    const refusal =
      allowed.length === 0
        ? new Failure('not_found')
        : new Failure('method_not_allowed', `${request.method} is not possible here; ${methods} is`)
    const refuse = (error?: Error): void => {
      if (!error && allowed.length > 0) reply.header('Allow', methods)
      done(error ?? refusal)
    }
    if (BASE_PATHS.some((base) => path.startsWith(`${base}/`))) authenticate(request, reply, refuse)
    else refuse()
  })
  return api
}

/** The path as the SDK has it behind its base URL, under whichever base it came. */
const aboutCall = ({ method, url }: FastifyRequest) => ({ method, path: url.replace(/^\/api\/partner/, '') })

/** Refuses a call, or stores a send and cuts its connection before the answer, where a fault was armed. */
function addFaults(v3: FastifyInstance, faults: Faults): void {
  v3.addHook('preHandler', (request, _, done) => done(refusal(faults, request)))
  v3.addHook('onSend', (request, reply, payload, done) => {
    const isSend = request.method === 'POST' && /\/chats$|\/messages$|\/voicememo$/.test(request.routeOptions.url ?? '')
    if (isSend && reply.statusCode < 300 && faults.take('send_ack_lost', request.partnerId, aboutCall(request))) {
      request.raw.socket.destroy()
    }
    done(null, payload)
  })
}

function refusal(faults: Faults, request: FastifyRequest): Failure | undefined {
  if (faults.list(request.partnerId).length === 0) return undefined
  const about = aboutCall(request)
  const limited = faults.take('rate_limited', request.partnerId, about)
  if (limited) return new Failure('rate_limited', undefined, { retryAfterSeconds: limited.retry_after ?? 1 })
  const name = failureOfCode(faults.take('error', request.partnerId, about)?.code ?? 0)
  return name && new Failure(name, undefined, name === 'rate_limited' ? { retryAfterSeconds: 1 } : {})
}

const ABOUT =
  'Attachments for messaging, wire-compatible with the Linq Partner API v3. Point the official SDK at this server by ' +
  'setting its base URL to this origin followed by /api/partner.'

/** The methods that some route has for a path: a path that exists for another method is 405, not 404. */
function rememberRoutes(api: FastifyInstance): (path: string) => string[] {
  const routes: { pattern: RegExp; methods: string[] }[] = []
  api.addHook('onRoute', ({ url, method }) => {
    const pattern = new RegExp(`^${url.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/:[A-Za-z]+/g, '[^/]+')}/?$`)
    routes.push({ pattern, methods: [method].flat() })
  })
  return (path) =>
    [...new Set(routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods))].sort()
}
