/**
 * Runs in a thread of its own: the digests of bodies that come piece by piece in shared memory. Each piece is acknowledged
 * when it may be overwritten, the end with the digests.
 */
import { createHash, type Hash } from 'node:crypto'
import { parentPort } from 'node:worker_threads'

export type Digests = { readonly sha256: string; readonly md5: string }

export type ToThread =
  | { readonly id: number; readonly piece: Uint8Array }
  | { readonly id: number; readonly over: 'digest' | 'forget' }

/** Without digests: the oldest piece of this body that was not acknowledged is. */
export type FromThread = { readonly id: number; readonly digests?: Digests }

const bodies = new Map<number, { readonly sha256: Hash; readonly md5: Hash }>()

function answer(message: ToThread): FromThread | undefined {
  const { id } = message
  const body = bodies.get(id) ?? { sha256: createHash('sha256'), md5: createHash('md5') }
  if ('piece' in message) {
    bodies.set(id, body)
    body.sha256.update(message.piece)
    body.md5.update(message.piece)
    return { id }
  }
  bodies.delete(id)
  if (message.over === 'forget') return undefined
  return { id, digests: { sha256: body.sha256.digest('hex'), md5: body.md5.digest('hex') } }
}

parentPort?.on('message', (message: ToThread) => {
  const said = answer(message)
  if (said) parentPort?.postMessage(said)
})
