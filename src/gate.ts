/** Lets so many in at once; the others wait in line, each only until its signal is aborted. */

export type Gate = {
  /** Resolves with a place, to be disposed of; rejects with the signal's reason. */
  enter(signal: AbortSignal): Promise<Disposable>
}

export function gate(places: number): Gate {
  let free = places
  const line = new Set<() => void>()

  function leave(): void {
    const [next] = line
    if (next === undefined) {
      free++
      return
    }
    line.delete(next)
    next()
  }

  return {
    async enter(signal) {
      signal.throwIfAborted()
      if (free > 0) free--
      else await turn(line, signal)
      return { [Symbol.dispose]: leave }
    },
  }
}

function turn(line: Set<() => void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const go = () => {
      signal.removeEventListener('abort', give)
      resolve()
    }
    const give = () => {
      line.delete(go)
      reject(signal.reason)
    }
    line.add(go)
    signal.addEventListener('abort', give, { once: true })
  })
}
