/**
 * Keyset paging: `limit` and an opaque `cursor` in, `next_cursor` out. A cursor is the sort key of the last row shown, so a
 * page does not shift when rows arrive.
 */
import { type Static, Type } from 'typebox'
import { Failure } from '../failure.ts'
import { isUuid } from '../ids.ts'

/** As strings: a query has nothing else, and the error should name what came. */
export const PageQuery = Type.Object({
  limit: Type.Optional(Type.String({ description: 'How many at most, 1 to 100' })),
  cursor: Type.Optional(Type.String({ description: 'next_cursor of the page before' })),
})

export type PageKey = { at: number; id: string }
export type Page = { limit: number; after: PageKey | undefined }

const LARGEST = 100

export function parsePage(query: Static<typeof PageQuery>, defaultLimit: number): Page {
  const { limit, cursor } = query
  const size = limit === undefined ? defaultLimit : Number(limit)
  if (limit !== undefined && (!/^\d{1,3}$/.test(limit) || size < 1 || size > LARGEST)) {
    throw new Failure('bad_parameter', `limit must be a whole number from 1 to ${LARGEST}`)
  }
  return { limit: size, after: cursor === undefined ? undefined : parseCursor(cursor) }
}

/** `rows` were asked for with one more than the limit: the extra row tells that there is a next page. */
export function paginate<R>(
  rows: R[],
  limit: number,
  keyOf: (row: R) => PageKey,
): { rows: R[]; next_cursor: string | null } {
  const shown = rows.slice(0, limit)
  const last = shown.at(-1)
  return { rows: shown, next_cursor: rows.length > limit && last ? cursorOf(keyOf(last)) : null }
}

const cursorOf = ({ at, id }: PageKey): string => Buffer.from(`${at}.${id}`).toString('base64url')

function parseCursor(cursor: string): PageKey {
  const [at = '', id = '', ...rest] = Buffer.from(cursor, 'base64url').toString('latin1').split('.')
  if (!/^\d{1,15}$/.test(at) || !isUuid(id) || rest.length > 0) {
    throw new Failure('bad_parameter', 'cursor is not one that this API gave out')
  }
  return { at: Number(at), id }
}
