/**
 * The port of uploads and the CDN: its own origin, no API key, no body parsers. Every body is a raw stream, and routes
 * touch Node's own request and answer.
 */
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import type { App } from '../app.ts'
import { Failure } from '../failure.ts'
import { respondJson } from './respond.ts'
import { createServer } from './server.ts'

export async function createEdge(app: App, routes: readonly FastifyPluginAsync[]): Promise<FastifyInstance> {
  const edge = createServer(app, 'edge')
  edge.setErrorHandler(respondJson)
  edge.removeAllContentTypeParsers()
  edge.addContentTypeParser('*', (_, __, done) => done(null))
  // Without this Node answers "100 Continue" by itself, before anyone has looked at the signature.
  edge.server.on('checkContinue', (request, response) => edge.routing(request, response))
  for (const room of routes) await edge.register(room)
  edge.setNotFoundHandler(async () => {
    throw new Failure('not_found')
  })
  return edge
}
