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

/** Memory for one piece, to be disposed of when it is neither read into nor written any more. */
type Piece = Disposable & { readonly memory: Buffer }

function pieceFor(isQuick: boolean): Piece {
  if (!isQuick || largeOut === LARGE_PIECES) {
    const memory = takeBlock()
    return { memory, [Symbol.dispose]: () => giveBack(memory) }
  }
  const memory = spare.pop() ?? Buffer.allocUnsafeSlow(LARGE_BYTES)
  largeOut++
  return {
    memory,
    [Symbol.dispose]() {
      largeOut--
      spare.push(memory)
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
  }
}

/** Resolves when the system has all of it. Rejects when the connection is closed: then nobody reads the bytes any more. */
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
