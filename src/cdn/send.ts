/**
 * Sends a part of a stored object: what is in memory in one go, the rest by pieces, the next one read when the system has taken
 * the last. Pieces of 768 KB cost half of what those of 256 KB do, but a slow reader must not sit on one: they are for readers
 * that took the piece before at once, and for so many at a time. A download holds one piece, whatever its size.
 */
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { BLOCK_BYTES, giveBack, takeBlock } from '../storage/blocks.ts'
import type { OpenObject } from '../storage/storage.ts'

const LARGE_BYTES = 768 * 1024
const LARGE_PIECES = 32
const AT_ONCE_MS = 250

const spare: Buffer[] = []
let largeOut = 0

/** Memory for one piece. It is used again if it is free in the end: nobody else looks at it. */
type Piece = Disposable & { readonly memory: Buffer; isFree: boolean }

function pieceFor(isQuick: boolean): Piece {
  const isLarge = isQuick && largeOut < LARGE_PIECES
  if (isLarge) largeOut++
  return {
    memory: isLarge ? (spare.pop() ?? Buffer.allocUnsafeSlow(LARGE_BYTES)) : takeBlock(),
    isFree: false,
    [Symbol.dispose]() {
      if (isLarge) largeOut--
      if (!this.isFree) return
      if (isLarge) spare.push(this.memory)
      else giveBack(this.memory)
    },
  }
}

/**
 * Ends the answer, whose head is written. Rejects when the client went away or the object cannot be read, and then the
 * connection is closed: only a length that was not reached tells the client. Nothing is read from the object afterwards.
 */
export async function send(
  response: ServerResponse,
  socket: Socket,
  object: OpenObject,
  { start, end }: { start: number; end: number },
): Promise<void> {
  if (object.bytes) {
    if (object.bytes.length <= end) {
      socket.destroy()
      throw tooShort()
    }
    response.end(object.bytes.subarray(start, end + 1))
    return
  }
  try {
    await sendPieces(response, socket, object, start, end)
  } catch (error) {
    socket.destroy()
    throw error
  }
}

async function sendPieces(
  response: ServerResponse,
  socket: Socket,
  object: OpenObject,
  start: number,
  end: number,
): Promise<void> {
  let isQuick = false
  for (let position = start; position <= end; ) {
    using piece = pieceFor(isQuick && end - position >= BLOCK_BYTES)
    const wanted = piece.memory.subarray(0, end + 1 - position)
    const bytesRead = await object.read(wanted, position)
    if (bytesRead === 0) throw tooShort()
    position += bytesRead
    const began = performance.now()
    await write(response, socket, wanted.subarray(0, bytesRead), position > end)
    isQuick = performance.now() - began < AT_ONCE_MS
    piece.isFree = true
  }
}

/** Resolves when the system has all of it. */
function write(response: ServerResponse, socket: Socket, bytes: Buffer, isLast: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const onClose = () => reject(new Error('the client went away'))
    const onWritten = (error?: Error | null) => {
      socket.off('close', onClose)
      if (error) reject(error)
      else resolve()
    }
    if (socket.destroyed) onClose()
    else {
      socket.once('close', onClose)
      if (isLast) response.end(bytes, onWritten)
      else response.write(bytes, onWritten)
    }
  })
}

const tooShort = () => new Error('a stored object is shorter than it was')
