/** Size in pixels and playing time of a file whose type is known, where they cost next to nothing to find out. */

import type { Bytes } from './bytes.ts'
import { readDimensions } from './dimensions.ts'
import { readDuration } from './duration.ts'
import { Reader } from './reader.ts'
import type { MediaType } from './types.ts'

const TIMEOUT_MS = 5_000

export type Details = { readonly width?: number; readonly height?: number; readonly durationSeconds?: number }

/** Never rejects: what a damaged file or a failing source does not give is left out. */
export async function describe(file: Bytes, type: MediaType): Promise<Details> {
  using reader = new Reader(file, { timeoutMs: TIMEOUT_MS })
  try {
    if (type.kind === 'image') return { ...(await readDimensions(reader, type.name)) }
    const durationSeconds = await readDuration(reader, type.name)
    return durationSeconds === undefined ? {} : { durationSeconds }
  } catch {
    return {}
  }
}
