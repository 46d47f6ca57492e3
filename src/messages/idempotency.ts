/**
 * The same key again gets the first answer again, and nothing is sent. Repeats at the same time wait for the first in this
 * process; across processes the unique key of the table lets one win. A failed try does not use up the key.
 */
import type { App } from '../app.ts'
import { type Db, isUniqueViolation } from '../db/schema.ts'
import { Failure } from '../failure.ts'
import { findIdempotencyKey, insertIdempotencyKey, messageExists } from './rows.ts'

export type Answer<T> = { status: 201 | 202; body: T }
/** Call it in the transaction that stores the message. */
export type Remember<T> = (tx: Db, messageId: string, answer: Answer<T>) => Promise<void>

const underway = new WeakMap<Db, Map<string, Promise<unknown>>>()

/** Failure message_not_found when the key's message was deleted since. */
export async function once<T>(
  app: Pick<App, 'db' | 'clock'>,
  o: { partnerId: string; key: string | undefined },
  work: (remember: Remember<T>) => Promise<Answer<T>>,
): Promise<Answer<T>> {
  const { key, partnerId } = o
  if (key === undefined) return await work(async () => {})
  return await alone(app.db, `${partnerId} ${key}`, async () => {
    const known = await recall<T>(app.db, partnerId, key)
    if (known) return known
    try {
      return await work(async (tx, messageId, { status, body }) => {
        const row = { partner_id: partnerId, key, message_id: messageId, status }
        await insertIdempotencyKey(tx, { ...row, response: JSON.stringify(body), created_at: app.clock.now() })
      })
    } catch (error) {
      const winner = isUniqueViolation(error) ? await recall<T>(app.db, partnerId, key) : undefined
      if (winner) return winner
      throw error
    }
  })
}

async function recall<T>(db: Db, partnerId: string, key: string): Promise<Answer<T> | undefined> {
  const row = await findIdempotencyKey(db, partnerId, key)
  if (!row) return undefined
  if (!(await messageExists(db, row.message_id))) {
    throw new Failure('message_not_found', 'The message of this idempotency key was deleted')
  }
  return { status: row.status, body: JSON.parse(row.response) } as Answer<T>
}

/** One at a time for each name. */
async function alone<T>(db: Db, name: string, work: () => Promise<T>): Promise<T> {
  const waiting = underway.get(db) ?? new Map<string, Promise<unknown>>()
  underway.set(db, waiting)
  for (let other = waiting.get(name); other; other = waiting.get(name)) await other.catch(() => {})
  const mine = work()
  waiting.set(name, mine)
  try {
    return await mine
  } finally {
    waiting.delete(name)
  }
}
