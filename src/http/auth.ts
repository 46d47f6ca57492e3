/**
 * Bearer token -> partner. Keys are looked up by their hash, so what can be timed tells nothing about a key. A key that was
 * found is believed for a second, so that a caller's many requests ask the database once: one that is revoked ends within that.
 * Keys that are not known are never remembered: a new one works at once.
 */
import { hash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import type { Db } from '../db/schema.ts'
import { Failure } from '../failure.ts'
import { findApiKey } from '../partners/rows.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the auth hook before any route of the API runs. */
    partnerId: string
  }
}

/** How long a key that is revoked elsewhere may still work here. */
export const BELIEVED_MS = 1_000
const KEYS_REMEMBERED = 10_000

export const hashApiKey = (key: string): string => hash('sha256', key)

/** A hook that sets the partner which the request's bearer token belongs to; Failure unauthorized without one. */
export function authenticator(db: Db) {
  const known = new Map<string, { partnerId: string; until: number }>()

  async function look(keyHash: string): Promise<string> {
    const asked = performance.now()
    known.delete(keyHash)
    const found = await findApiKey(db, keyHash)
    if (!found || !timingSafeEqual(Buffer.from(found.key_hash), Buffer.from(keyHash))) {
      throw new Failure('unauthorized', 'The API key is not known')
    }
    if (known.size >= KEYS_REMEMBERED) known.clear()
    // From before the question on: the answer may have been on its way for a while.
    known.set(keyHash, { partnerId: found.partner_id, until: asked + BELIEVED_MS })
    return found.partner_id
  }

  return (request: FastifyRequest, _: unknown, done: HookHandlerDoneFunction): void => {
    const [, token] = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '') ?? []
    const keyHash = token && hashApiKey(token)
    const believed = keyHash && known.get(keyHash)
    const accept = (partnerId: string): void => {
      request.partnerId = partnerId
      done()
    }
    if (!keyHash) done(new Failure('unauthorized', 'Send your API key as "Authorization: Bearer <key>"'))
    else if (believed && believed.until > performance.now()) accept(believed.partnerId)
    else look(keyHash).then(accept, done)
  }
}
