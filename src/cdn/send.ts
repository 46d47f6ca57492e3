/**
 * Sends a part of a stored object: what is in memory in one go, the rest by pieces of 256 KB, the next one read when the
 * system has taken the last. A download holds one buffer, however slow its reader; what is over gives it to the next.
 */
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { OpenObject } from '../storage/storage.ts'

const PIECE_BYTES = 256 * 1024
const SPARE_PIECES = 32

const spare: Buffer[] = []

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
      throw new Error('a stored object is shorter than it was')
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

function sendPieces(
  response: ServerResponse,
  socket: Socket,
  object: OpenObject,
  start: number,
  end: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const piece = spare.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES)
    let position = start
    let isReading = false
    let failure: Error | undefined

    function next(error?: Error | null): void {
      if (failure) return
      if (error || socket.destroyed) {
        fail(error ?? new Error('the client went away'))
        return
      }
      if (position > end) {
        socket.off('close', onClose)
        // The system has all of it: nobody else looks at the piece any more.
        if (spare.length < SPARE_PIECES) spare.push(piece)
        response.end()
        resolve()
        return
      }
      isReading = true
      const wanted = piece.subarray(0, Math.min(PIECE_BYTES, end + 1 - position))
      object.read(wanted, position).then(
        (bytesRead) => {
          isReading = false
          if (failure) reject(failure)
          else if (bytesRead === 0) fail(new Error('a stored object is shorter than it was'))
          else {
            position += bytesRead
            response.write(wanted.subarray(0, bytesRead), next)
          }
        },
        (error) => {
          isReading = false
          fail(error)
        },
      )
    }

    function fail(error: Error): void {
      failure ??= error
      socket.off('close', onClose)
      if (!isReading) reject(failure)
    }

    const onClose = () => fail(new Error('the client went away'))
    socket.once('close', onClose)
    next()
  })
}
