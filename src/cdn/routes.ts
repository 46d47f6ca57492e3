/**
 * The CDN: GET and HEAD of complete attachments under their address, permanent or signed, with ranges and validators. No row, no
 * bytes: what is deleted is gone at once. Served files are inert: their type is what was found by looking, they open in a
 * sandbox, and only harmless types open in the page at all.
 */
import { pipeline } from 'node:stream/promises'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { App } from '../app.ts'
import { type CompleteAttachment, findServable } from '../attachments/get.ts'
import { CDN_PATH, checkLink, EPHEMERAL_PATH, type LinkQuery } from '../attachments/links.ts'
import { settleFirst } from '../attachments/settle.ts'
import type { FaultKind } from '../carriers/sandbox/faults.ts'
import { Failure } from '../failure.ts'
import { contentDisposition, FILE_SECURITY_HEADERS } from '../http/disposition.ts'
import { answer } from '../http/range.ts'
import type { OpenObject } from '../storage/storage.ts'
import { send } from './send.ts'

/** Bounded, since a deleted file must leave other people's caches too. */
const CACHE_CONTROL = 'public, max-age=300'

const CORS = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Expose-Headers':
    'Content-Length, Content-Range, Accept-Ranges, ETag, Content-Disposition, X-Trace-ID',
}

/** What every file has, as writeHead wants it. */
const ALWAYS = Object.entries({ ...FILE_SECURITY_HEADERS, ...CORS }).flat()
const CACHED = [...ALWAYS, 'Cache-Control', CACHE_CONTROL]
const UNCACHED = [...ALWAYS, 'Cache-Control', 'no-store']

const PREFLIGHT = {
  ...CORS,
  'Access-Control-Allow-Methods': 'GET, HEAD',
  'Access-Control-Allow-Headers': '*',
  'Access-Control-Max-Age': '86400',
}

type Address = { Params: { partner_id: string; id: string; filename: string }; Querystring: LinkQuery }

export function cdnRoutes(app: App): FastifyPluginAsync {
  return async (edge) => {
    for (const tier of [CDN_PATH, EPHEMERAL_PATH]) {
      const url = `${tier}/:partner_id/:id/:filename`
      edge.route<Address>({ method: ['GET', 'HEAD'], url, handler: (request, reply) => serve(app, request, reply) })
      edge.options(url, async (_, reply) => reply.code(204).headers(PREFLIGHT).send())
      edge.route({
        method: ['POST', 'PUT', 'PATCH', 'DELETE'],
        url,
        handler: async (_, reply) => {
          reply.header('Allow', 'GET, HEAD, OPTIONS')
          throw new Failure('method_not_allowed', 'Files can only be read')
        },
      })
    }
  }
}

async function serve(app: App, request: FastifyRequest<Address>, reply: FastifyReply): Promise<unknown> {
  const ephemeral = request.routeOptions.url?.startsWith(EPHEMERAL_PATH) ?? false
  try {
    if (ephemeral) checkSignature(app, request)
    return await serveFile(app, request, reply, ephemeral)
  } catch (error) {
    reply.headers(CORS).header('Cache-Control', 'no-store')
    throw error
  }
}

async function serveFile(
  app: App,
  request: FastifyRequest<Address>,
  reply: FastifyReply,
  ephemeral: boolean,
): Promise<FastifyReply> {
  const address = { ...request.params, ephemeral }
  await settleFirst(app, address.partner_id, address.id)
  const file = await findServable(app, address)
  if (!file) throw new Failure('attachment_not_found')
  await actOutFaults(app, file)
  const { status, start, end, headers } = answer(request, {
    size: file.size_bytes,
    etag: `"${file.sha256}"`,
    modified: file.completed_at ?? file.created_at,
  })
  const length = end - start + 1
  const isSent = request.method === 'GET' && length > 0
  using object = isSent ? await openFile(app, file, address) : undefined
  const streamed = isSent && !app.storage.open ? await app.storage.get(file.storage_key, { start, end }) : undefined
  if (isSent && !object && !streamed) {
    if (!(await findServable(app, address))) throw new Failure('attachment_not_found')
    throw new Failure('database_failed', undefined, { cause: new Error(`${file.storage_key} is not in storage`) })
  }
  if (isSent) app.metrics.served.inc(length)
  // Names and values in turn, as they are: Fastify would copy them twice on the way to Node.
  reply.hijack()
  reply.raw.writeHead(status, [
    ...['X-Trace-ID', request.id, 'Content-Type', file.content_type],
    ...['Content-Disposition', contentDisposition(file.filename, file.content_type)],
    ...Object.entries(headers).flat(),
    ...(ephemeral ? UNCACHED : CACHED),
  ])
  try {
    if (object) await send(reply.raw, request.raw.socket, object, { start, end })
    else if (streamed) await pipeline(streamed, reply.raw)
    else reply.raw.end()
  } catch (error) {
    // The client went away, or the storage broke: either way the answer is cut off, which its length gives away.
    request.log.debug({ err: error }, 'download broke off')
  }
  return reply
}

/** undefined: not there, or the storage has no pieces. Small objects may be moved meanwhile, and then the row knows where to. */
async function openFile(
  app: App,
  file: CompleteAttachment,
  address: Address['Params'] & { ephemeral: boolean },
): Promise<OpenObject | undefined> {
  const keep = !address.ephemeral
  const object = await app.storage.open?.(file.storage_key, { keep })
  if (object || !app.storage.open) return object
  const now = await findServable(app, address)
  return now && now.storage_key !== file.storage_key ? await app.storage.open(now.storage_key, { keep }) : undefined
}

/** Before anything is looked up, so that only the bearer of a true link learns whether a file is there. */
function checkSignature(app: App, request: FastifyRequest<Address>): void {
  const link = checkLink(app, request.params, request.query)
  if (link === 'valid') return
  const expired = 'The link has expired; retrieve the attachment for a new one'
  throw new Failure('access_denied', link === 'expired' ? expired : 'The link is not one that was made here')
}

async function actOutFaults({ sandbox, clock }: App, file: CompleteAttachment): Promise<void> {
  if (!sandbox) return
  const take = (kind: FaultKind) => sandbox.faults.take(kind, file.partner_id, { attachment_id: file.id })
  const slow = take('cdn_slow')
  if (slow) await clock.sleep((slow.seconds ?? 5) * 1000)
  if (take('cdn_forbidden')) throw new Failure('access_denied')
  if (take('cdn_not_found')) throw new Failure('attachment_not_found')
}
