/**
 * Memory that bodies pass through, in blocks that are used again: new memory for every piece would bring on a collection of all
 * garbage with every few dozen megabytes. It is shared memory, so that another thread may read a block meanwhile.
 */

export const BLOCK_BYTES = 256 * 1024
const SPARE_BLOCKS = 256

const spare: Buffer[] = []

/** Of BLOCK_BYTES, with anything in it. One that is never given back is garbage like any other memory. */
export const takeBlock = (): Buffer => spare.pop() ?? Buffer.from(new SharedArrayBuffer(BLOCK_BYTES))

/** Only when nobody reads or writes it any more. */
export function giveBack(block: Buffer): void {
  if (spare.length < SPARE_BLOCKS) spare.push(block)
}

/**
 * Gives the memory of a buffer back now, if it has its own: waiting for that, tens of megabytes of received chunks would bring
 * on one collection after the other. Only when nobody has another view of it, and no write of it is under way.
 */
export function release(bytes: Buffer): void {
  const { buffer } = bytes
  if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength) buffer.transfer(0)
}
