/** How far a move has come, kept in its target: in the same transaction as the rows, so that it is never wrong. */
import type { Db, Row } from '../db/schema.ts'
import { asTables, tables, type Value } from './tables.ts'

export type Step = { after: Value[] | null; copied: number; finished: boolean }

/** The target cannot be moved into. The message is for the operator. */
export class MoveRefused extends Error {
  override name = 'MoveRefused'
}

/**
 * Begins a move, or goes on with one. Throws MoveRefused when the target has data that this source did not bring, since
 * two sets of partners, lines and keys do not mix.
 */
export async function beginMove(target: Db, source: string): Promise<{ finished: boolean }> {
  const known = await target.selectFrom('migrated_data').selectAll().execute()
  const other = known.find((row) => row.source !== source)
  if (other) throw new MoveRefused(`the target was filled from ${other.source}; it cannot take another source as well`)
  if (known.length > 0) return { finished: known.every((row) => row.finished_at !== null) }
  for (const { name } of tables) {
    const row = await asTables(target).selectFrom(name).selectAll().limit(1).executeTakeFirst()
    if (row)
      throw new MoveRefused(`the target is not empty: it has ${name}. Move before the first start of its server.`)
  }
  const steps = [...tables.map(({ name }) => name), 'objects']
  const rows = steps.map((step) => ({ step, source, last_key: null, copied: 0, finished_at: null }))
  await target.insertInto('migrated_data').values(rows).execute()
  return { finished: false }
}

export async function findStep(target: Db, step: string): Promise<Step> {
  const row = await target.selectFrom('migrated_data').selectAll().where('step', '=', step).executeTakeFirstOrThrow()
  return {
    after: row.last_key === null ? null : (JSON.parse(row.last_key) as Value[]),
    copied: row.copied,
    finished: row.finished_at !== null,
  }
}

/** `now`: the step is finished. */
export async function saveStep(
  tx: Db,
  step: string,
  o: { after: readonly Value[] | null; copied: number; now?: number },
): Promise<void> {
  const change: Partial<Row<'migrated_data'>> = {
    last_key: o.after === null ? null : JSON.stringify(o.after),
    copied: o.copied,
    finished_at: o.now ?? null,
  }
  await tx.updateTable('migrated_data').set(change).where('step', '=', step).execute()
}
