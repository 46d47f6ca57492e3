/**
 * `GET /sandbox/events`: everything that happens to a partner, as server-sent events whose data is the webhook's body. Reads
 * the table of events, so it shows what is committed, and goes on behind Last-Event-ID after a break.
 */
import { once } from 'node:events'
import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import type { App } from '../../app.ts'
import { ERRORS } from '../../http/schemas.ts'
import { isUuid } from '../../ids.ts'
import { envelopeJson } from '../../webhooks/events.ts'
import { listEventsAfter } from '../../webhooks/rows.ts'

const POLL_MS = 100
const BEAT_MS = 15_000
const BATCH = 100

export function eventRoutes(app: App): FastifyPluginAsync {
  return async (api) => {
    const closing = new AbortController()
    api.addHook('preClose', async () => closing.abort())

    api.get(
      '/events',
      {
        schema: {
          tags: ['Sandbox'],
          summary: 'Follow everything that happens (server-sent events)',
          produces: ['text/event-stream'],
          response: ERRORS,
        },
      },
      async (request, reply) => {
        const last = request.headers['last-event-id']
        const after =
          typeof last === 'string' && isUuid(last) ? last.toLowerCase() : await newestEvent(app, request.partnerId)
        reply.hijack()
        const headers = { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-trace-id': request.id }
        reply.raw.writeHead(200, headers)
        const gone = new AbortController()
        reply.raw.once('close', () => gone.abort())
        try {
          await follow(app, {
            partnerId: request.partnerId,
            after,
            reply,
            signal: AbortSignal.any([gone.signal, closing.signal]),
          })
        } finally {
          reply.raw.end()
        }
      },
    )
  }
}

async function newestEvent(app: App, partnerId: string): Promise<string> {
  const row = await app.db
    .selectFrom('events')
    .select((eb) => eb.fn.max('id').as('id'))
    .where('partner_id', '=', partnerId)
    .executeTakeFirst()
  return row?.id ?? ''
}

type Following = { partnerId: string; after: string; reply: FastifyReply; signal: AbortSignal }

async function follow(app: App, { partnerId, after, reply, signal }: Following): Promise<void> {
  const out = reply.raw
  // The id lets a client that loses the line before the first event ask for what came after this moment.
  out.write(after === '' ? ': ready\n\n' : `id: ${after}\n\n`)
  let beatAt = performance.now() + BEAT_MS
  for (let last = after; !signal.aborted; ) {
    const events = await listEventsAfter(app.db, partnerId, last, BATCH)
    for (const event of events) {
      out.write(`id: ${event.id}\nevent: ${event.type}\ndata: ${envelopeJson(event, '2026-02-03')}\n\n`)
      last = event.id
    }
    if (performance.now() > beatAt) {
      out.write(': beat\n\n')
      beatAt = performance.now() + BEAT_MS
    }
    // A reader that does not keep up is waited for, so that nothing piles up here.
    if (out.writableNeedDrain) await once(out, 'drain', { signal }).catch(() => {})
    else if (events.length < BATCH) await app.clock.sleep(POLL_MS, signal).catch(() => {})
  }
}
