/** Whether this process runs, whether it can work, and its metrics; and a server with nothing else, for a node without the API. */
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { sql } from 'kysely'
import type { App } from '../app.ts'
import { Failure } from '../failure.ts'
import { respondJson } from './respond.ts'
import { createServer } from './server.ts'

const READY_WITHIN_MS = 2_000

export function healthRoutes(app: App): FastifyPluginAsync {
  return async (api) => {
    api.get('/healthz', { schema: { hide: true } }, async () => ({ status: 'ok' }))
    api.get('/readyz', { schema: { hide: true } }, async (_, reply) => {
      const checks = await readiness(app)
      const ready = Object.values(checks).every((state) => state === 'ok')
      return reply.code(ready ? 200 : 503).send({ status: ready ? 'ok' : 'unavailable', ...checks })
    })
    api.get('/metrics', { schema: { hide: true } }, async (_, reply) => {
      return reply
        .serializer(String)
        .type(app.metrics.registry.contentType)
        .send(await app.metrics.registry.metrics())
    })
  }
}

export async function createHealth(app: App): Promise<FastifyInstance> {
  const server = createServer(app, 'health')
  server.setErrorHandler(respondJson)
  await server.register(healthRoutes(app))
  server.setNotFoundHandler(async () => {
    throw new Failure('not_found', 'This node serves no API')
  })
  return server
}

/** Asks the database and the storage something small, each within two seconds. */
async function readiness(app: App): Promise<{ database: string; storage: string }> {
  const probe = async (work: Promise<unknown>): Promise<string> => {
    const limit = new AbortController()
    const late = app.clock.sleep(READY_WITHIN_MS, limit.signal).then(() => Promise.reject(new Error('too slow')))
    try {
      await Promise.race([work, late])
      return 'ok'
    } catch (error) {
      app.log.warn({ err: error }, 'not ready')
      return 'unavailable'
    } finally {
      limit.abort()
      late.catch(() => {})
    }
  }
  const [database, storage] = await Promise.all([
    probe(sql`select id from partners limit 1`.execute(app.db)),
    probe(app.storage.stat('media/ready')),
  ])
  return { database, storage }
}
