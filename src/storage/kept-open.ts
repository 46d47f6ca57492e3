/**
 * Objects kept open between two readings: small ones as their bytes, others as a descriptor. Opening a file each
 * time is a third of what a small request costs, and most files are read more than once or in pieces. What is kept is bounded, is
 * let go at once when its object is deleted through us, and ten seconds after the last reading in any case, since another
 * process may have deleted it. Readers share; nothing is closed under one of them.
 */
import type { OpenObject } from './storage.ts'

const KEPT_OBJECTS = 256
const KEPT_BYTES = 32 * 1024 * 1024
const IDLE_MS = 10_000

/** An opened object; `close` is called once, with no reading under way. */
export type Source = Omit<OpenObject, typeof Symbol.dispose> & { close(): void }

type Entry = {
  readonly opening: Promise<Source | undefined>
  source: Source | undefined
  readers: number
  idleSince: number
}

export class KeptOpen {
  readonly #load: (key: string) => Promise<Source | undefined>
  readonly #known = new Map<string, Entry>()
  /** Those of the known ones that nobody reads, the longest idle first. */
  readonly #idle = new Map<string, Source>()
  #idleBytes = 0
  #timer: NodeJS.Timeout | undefined

  /** `load` opens an object; undefined: there is none. */
  constructor(load: (key: string) => Promise<Source | undefined>) {
    this.#load = load
  }

  /** `keep: false`: it is let go as soon as nobody reads it. */
  async open(key: string, { keep }: { keep: boolean }): Promise<OpenObject | undefined> {
    const entry = this.#known.get(key) ?? this.#begin(key)
    this.#enter(key, entry)
    const source = entry.source ?? (await this.#opened(key, entry))
    if (!source) return undefined
    if (!keep) this.drop(key)
    let isOpen = true
    return {
      size: source.size,
      bytes: source.bytes,
      read: (buffer, position) => source.read(buffer, position),
      [Symbol.dispose]: () => {
        if (isOpen) this.#leave(key, entry, source)
        isOpen = false
      },
    }
  }

  /** From now on it is opened anew. Those who read it may end. */
  drop(key: string): void {
    this.#known.delete(key)
    const source = this.#unidle(key)
    source?.close()
  }

  /** What is kept although nobody reads it. */
  get idle(): { objects: number; bytes: number } {
    return { objects: this.#idle.size, bytes: this.#idleBytes }
  }

  #begin(key: string): Entry {
    const entry: Entry = { opening: this.#load(key), source: undefined, readers: 0, idleSince: 0 }
    this.#known.set(key, entry)
    return entry
  }

  async #opened(key: string, entry: Entry): Promise<Source | undefined> {
    try {
      entry.source = await entry.opening
      return entry.source
    } finally {
      if (!entry.source && this.#known.get(key) === entry) this.#known.delete(key)
    }
  }

  #enter(key: string, entry: Entry): void {
    if (entry.readers++ === 0) this.#unidle(key)
  }

  #leave(key: string, entry: Entry, source: Source): void {
    if (--entry.readers > 0) return
    if (this.#known.get(key) !== entry) {
      source.close()
      return
    }
    entry.idleSince = Date.now()
    this.#idle.set(key, source)
    this.#idleBytes += source.bytes?.length ?? 0
    this.#evict(({ size }) => size > KEPT_OBJECTS || this.#idleBytes > KEPT_BYTES)
    this.#timer ??= setTimeout(() => this.#tick(), IDLE_MS / 4).unref()
  }

  #unidle(key: string): Source | undefined {
    const source = this.#idle.get(key)
    if (!source) return undefined
    this.#idle.delete(key)
    this.#idleBytes -= source.bytes?.length ?? 0
    return source
  }

  #tick(): void {
    this.#timer = undefined
    const before = Date.now() - (3 / 4) * IDLE_MS
    this.#evict((_, entry) => entry !== undefined && entry.idleSince <= before)
    if (this.#idle.size > 0) this.#timer = setTimeout(() => this.#tick(), IDLE_MS / 4).unref()
  }

  #evict(isTooMuch: (idle: Map<string, Source>, oldest: Entry | undefined) => boolean): void {
    for (const key of this.#idle.keys()) {
      if (!isTooMuch(this.#idle, this.#known.get(key))) return
      this.drop(key)
    }
  }
}
