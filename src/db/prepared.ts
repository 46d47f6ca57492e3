/**
 * Queries that run on every request: Kysely builds and compiles each of these once, since that takes longer than SQLite needs
 * to run it. `build` is an ordinary query of the values it is given; what it makes of them must not depend on what they are,
 * only on which there are and how long each list is, for which it is built anew.
 */
import type { Compilable, CompiledQuery, QueryResult } from 'kysely'
import type { Db } from './schema.ts'

export type Prepared<V, R> = {
  all(db: Db, values: V): Promise<R[]>
  first(db: Db, values: V): Promise<R | undefined>
  /** Resolves with the number of rows that were written. */
  write(db: Db, values: V): Promise<number>
}

type Reader = <R>(query: CompiledQuery<R>) => Promise<QueryResult<R>>

/** Of databases whose reading needs no connection: straight there, past what Kysely does around each query. By their adapter. */
export const readers = new WeakMap<object, Reader>()

/** Lists of every length come by, few often. */
const SHAPES_KEPT = 200

export function prepared<V extends object, R>(build: (db: Db, values: V) => Compilable<R>): Prepared<V, R> {
  /** By what a database and its transactions have in common, for each speaks its own dialect. */
  const known = new WeakMap<object, Map<string, CompiledQuery<R>>>()

  function execute(db: Db, values: V): Promise<QueryResult<R>> {
    const parameters: unknown[] = []
    const shape = collect(values, parameters)
    const { adapter } = db.getExecutor()
    const queries = known.get(adapter) ?? new Map<string, CompiledQuery<R>>()
    known.set(adapter, queries)
    let query = queries.get(shape)
    if (!query) {
      if (queries.size >= SHAPES_KEPT) queries.clear()
      query = build(db, slotsOf(values, { used: 0 }) as V).compile()
      queries.set(shape, query)
    }
    const { sql, query: node, queryId } = query
    const own = query.parameters.map((value) => (value instanceof Slot ? parameters[value.index] : value))
    const ready = { sql, query: node, queryId, parameters: own }
    const read = node.kind === 'SelectQueryNode' && !db.isTransaction ? readers.get(adapter) : undefined
    return read ? read(ready) : db.executeQuery(ready)
  }

  return {
    all: async (db, values) => (await execute(db, values)).rows,
    first: async (db, values) => (await execute(db, values)).rows[0],
    write: async (db, values) => Number((await execute(db, values)).numAffectedRows ?? 0),
  }
}

/** Stands in a compiled query for the value of that number. */
class Slot {
  readonly index: number
  constructor(index: number) {
    this.index = index
  }
}

/** Puts all values into `into`, in the order of their slots, and returns what distinguishes them besides what they are. */
function collect(value: unknown, into: unknown[]): string {
  if (value === undefined) return '-'
  if (typeof value !== 'object' || value === null) {
    into.push(value)
    return ''
  }
  let shape = ''
  if (Array.isArray(value)) for (const item of value) shape += `${collect(item, into)};`
  else for (const [name, part] of Object.entries(value)) shape += `${name}:${collect(part, into)};`
  return `(${shape})`
}

function slotsOf(value: unknown, counter: { used: number }): unknown {
  if (value === undefined) return undefined
  if (typeof value !== 'object' || value === null) return new Slot(counter.used++)
  if (Array.isArray(value)) return value.map((item) => slotsOf(item, counter))
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, slotsOf(part, counter)]))
}
