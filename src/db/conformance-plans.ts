/**
 * Part of the suite of every database: what a caller may ask of a large table is answered through an index. The statement
 * that is explained is the very one that the function sends, with its parameters, on tables that have grown.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CompiledQuery, type KyselyPlugin, type RootOperationNode, sql } from 'kysely'
import { listChats } from '../chats/rows.ts'
import { insertPartner } from '../partners/rows.ts'
import type { Pair } from './conformance.ts'
import type { Db } from './schema.ts'

const CHATS = 20_000

export function planConformance(open: () => Promise<Pair>): void {
  describe('plans', () => {
    test('chats with an e-mail address or a number are found through an index on it', async () => {
      await using pair = await open()
      const { db } = pair.a
      await growChats(db)
      const page = { limit: 20, after: undefined }
      for (const [to, index] of [
        ['Guest7@Example.com', 'chat_handles_by_address'],
        ['+1200000008', 'chat_handles_by_handle'],
      ] as const) {
        const filter = { partnerId: 'p', from: undefined, to: [to] }
        const plan = await planOfFirst(db, (watched) => listChats(watched, filter, page))
        assert.ok(plan.includes(index), plan)
        assert.equal((await listChats(db, filter, page)).length, 1, to)
      }
    })
  })
}

/** Of one partner, each with one other: odd ones by address, even ones by number. */
async function growChats(db: Db): Promise<void> {
  await insertPartner(db, { id: 'p', name: 'x', created_at: 1 }, 'hash')
  const numbers = sql`with recursive n(i) as (select 1 union all select i + 1 from n where i < ${sql.lit(CHATS)})`
  await sql`insert into chats (id, partner_id, phone_number, is_group, service, health_status, health_updated_at,
      created_at, updated_at)
    ${numbers} select 'chat-' || i, 'p', '+12025550142', 0, 'iMessage', 'HEALTHY', 1, 1, i from n`.execute(db)
  await sql`insert into chat_handles (id, chat_id, position, handle, service, status, is_me, joined_at)
    ${numbers} select 'handle-' || i, 'chat-' || i, 1,
      case when i % 2 = 1 then 'guest' || i || '@example.COM' else '+1' || (200000000 + i) end, 'iMessage', 'active', 0, 1
    from n`.execute(db)
  await sql`analyze`.execute(db)
}

/** How the database means to run the first statement of this work. */
async function planOfFirst(db: Db, work: (watched: Db) => Promise<unknown>): Promise<string> {
  let first: RootOperationNode | undefined
  const watch: KyselyPlugin = {
    transformQuery({ node }) {
      first ??= node
      return node
    },
    transformResult: async ({ result }) => result,
  }
  await work(db.withPlugin(watch))
  assert.ok(first)
  const { sql: text, parameters } = db.getExecutor().compileQuery(first, { queryId: 'plan' })
  const verb = text.includes('$1') ? 'explain' : 'explain query plan'
  const { rows } = await db.executeQuery<Record<string, unknown>>(CompiledQuery.raw(`${verb} ${text}`, [...parameters]))
  return rows.map((row) => Object.values(row).join(' ')).join('\n')
}
