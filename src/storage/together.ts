/** Group commit: whatever comes while one flush is under way is done by the next one, all at once. Nobody waits for more. */

/**
 * `flush` is never called twice at a time and gives a result for each item, in order; when it rejects, so does everyone in
 * that group, and the next group is tried all the same.
 */
export function together<T, R>(flush: (items: readonly T[]) => Promise<readonly R[]>): (item: T) => Promise<R> {
  type Waiting = { item: T; resolve: (result: R) => void; reject: (error: unknown) => void }
  let waiting: Waiting[] = []
  let flushing = false

  async function flushAll(): Promise<void> {
    flushing = true
    while (waiting.length > 0) {
      const group = waiting
      waiting = []
      try {
        const results = await flush(group.map(({ item }) => item))
        for (const [i, { resolve }] of group.entries()) resolve(results[i] as R)
      } catch (error) {
        for (const { reject } of group) reject(error)
      }
    }
    flushing = false
  }

  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject })
      if (!flushing) void flushAll()
    })
}
