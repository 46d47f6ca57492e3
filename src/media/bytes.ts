/** Random access to a file wherever it lies: a descriptor on disk, ranges of a bucket, a Buffer in a test. */
export interface Bytes {
  /** Length of the whole file in bytes. */
  readonly size: number
  /** Up to `length` bytes from `offset`; fewer (or none) at the end of the file. Rejects when the source fails. */
  read(offset: number, length: number): Promise<Uint8Array>
}

/** A file that is in memory already. Reads are views of it. */
export function bufferBytes(buffer: Uint8Array): Bytes {
  return {
    size: buffer.length,
    read: async (offset, length) => buffer.subarray(offset, offset + length),
  }
}
