/**
 * Writes that are asked for in the same turn of the event loop, or while another is under way, are made together: a
 * transaction costs more than the rows it writes. One write is under way at a time; nobody waits for more to come.
 */
import { Failure } from '../failure.ts'

/** Bounds how much one write locks and holds up, and of how many lengths its lists come. */
const MOST_AT_ONCE = 64

type Waiting<T> = { item: T; resolve: (written: boolean) => void; reject: (error: unknown) => void }

/**
 * `write` resolves with those that it wrote; for the others the returned function resolves with false, and with that the
 * caller has to do it alone. So it does for all of a write that failed because of one of them. Rejects with what keeps
 * everybody from writing: Failure database_unavailable; then nobody knows what was written.
 */
export function together<T>(write: (items: T[]) => Promise<ReadonlySet<T>>): (item: T) => Promise<boolean> {
  let waiting: Waiting<T>[] = []
  let isWriting = false

  async function writeAll(): Promise<void> {
    while (waiting.length > 0) {
      const some = waiting.slice(0, MOST_AT_ONCE)
      waiting = waiting.slice(MOST_AT_ONCE)
      try {
        const written = await write(some.map(({ item }) => item))
        for (const { item, resolve } of some) resolve(written.has(item))
      } catch (error) {
        const isAway = error instanceof Failure && error.failure === 'database_unavailable'
        for (const { resolve, reject } of some) isAway ? reject(error) : resolve(false)
      }
    }
    isWriting = false
  }

  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject })
      if (isWriting) return
      isWriting = true
      setImmediate(writeAll)
    })
}
