/** Bearer token -> partner. Keys are looked up by their hash, so what can be timed tells nothing about a key. */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { Db } from '../db/schema.ts'
import { Failure } from '../failure.ts'
import { findApiKey } from '../partners/rows.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the auth hook before any route of the API runs. */
    partnerId: string
  }
}

export const hashApiKey = (key: string): string => createHash('sha256').update(key).digest('hex')

/** The partner that the request's bearer token belongs to; Failure unauthorized otherwise. */
export async function authenticate(db: Db, request: FastifyRequest): Promise<string> {
  const [, token] = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '') ?? []
  if (!token) throw new Failure('unauthorized', 'Send your API key as "Authorization: Bearer <key>"')
  const hash = hashApiKey(token)
  const found = await findApiKey(db, hash)
  if (!found || !timingSafeEqual(Buffer.from(found.key_hash), Buffer.from(hash))) {
    throw new Failure('unauthorized', 'The API key is not known')
  }
  return found.partner_id
}
