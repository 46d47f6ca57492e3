/** Copies the rows of one table, or says which of them are not in the target as they are in the source. */
import type { Db } from '../db/schema.ts'
import { findStep, saveStep } from './progress.ts'
import { type AnyRow, asTables, keyOf, pageOf, type Table } from './tables.ts'

const ROWS_AT_A_TIME = 500
/** SQLite takes 32,766 parameters in a statement, PostgreSQL 65,535. */
const ROWS_PER_INSERT = 250

type Move = { source: Db; target: Db; now: () => number; onProgress: (copied: number) => void }

/** Goes on where it stopped; each page and how far that is are one transaction. Returns how many rows there are. */
export async function copyRows({ source, target, now, onProgress }: Move, table: Table): Promise<number> {
  let { after, copied, finished } = await findStep(target, table.name)
  while (!finished) {
    const page = await pageOf(asTables(source), table, after, ROWS_AT_A_TIME)
    const last = page.at(-1)
    finished = page.length < ROWS_AT_A_TIME
    copied += page.length
    after = last ? keyOf(table, last) : after
    const step = { after, copied, ...(finished ? { now: now() } : {}) }
    await target.transaction().execute(async (tx) => {
      for (let at = 0; at < page.length; at += ROWS_PER_INSERT) {
        await asTables(tx)
          .insertInto(table.name)
          .values(page.slice(at, at + ROWS_PER_INSERT))
          .execute()
      }
      await saveStep(tx, table.name, step)
    })
    onProgress(copied)
  }
  return copied
}

/** How many rows of the source the target has letter for letter, lacks, and has otherwise. */
export async function verifyRows({ source, target, onProgress }: Move, table: Table) {
  const found = { same: 0, missing: 0, changed: 0 }
  for (let after = null as ReturnType<typeof keyOf> | null; ; ) {
    const page = await pageOf(asTables(source), table, after, ROWS_AT_A_TIME)
    const last = page.at(-1)
    if (!last) return found
    const there = await asTables(target)
      .selectFrom(table.name)
      .selectAll()
      .where(table.by, 'in', [...new Set(page.map((row) => row[table.by] ?? null))])
      .execute()
    const byKey = new Map((there as AnyRow[]).map((row) => [JSON.stringify(keyOf(table, row)), row]))
    for (const row of page) {
      const other = byKey.get(JSON.stringify(keyOf(table, row)))
      if (!other) found.missing++
      else if (Object.entries(row).every(([column, value]) => other[column] === value)) found.same++
      else found.changed++
    }
    onProgress(found.same + found.missing + found.changed)
    after = keyOf(table, last)
  }
}
