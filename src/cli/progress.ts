/** One line on a terminal that is written over and over while long work is under way; nothing where there is no terminal. */

const EVERY_MS = 200

export type Progress = {
  show(text: string): void
  /** Removes the line, so that what follows starts on a clean one. */
  clear(): void
}

export function openProgress(stream: { isTTY?: boolean; write(text: string): unknown } = process.stderr): Progress {
  let last = 0
  let shown = false
  return {
    show(text) {
      if (!stream.isTTY || Date.now() - last < EVERY_MS) return
      last = Date.now()
      shown = true
      stream.write(`\r\x1b[K${text}`)
    },
    clear() {
      if (shown) stream.write('\r\x1b[K')
      shown = false
    },
  }
}

/** `1.5 GB`: powers of 1024, two or three digits. */
export function readableBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const unit = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1)
  const value = bytes / 1024 ** unit
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}
