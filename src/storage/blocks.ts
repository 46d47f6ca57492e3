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
