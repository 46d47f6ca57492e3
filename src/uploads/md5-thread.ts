/**
 * Runs in a thread of its own: the MD5 of bodies that come block by block through shared memory. Each block is acknowledged
 * when it may be filled again, the end with the digest.
 */
import { createHash, type Hash } from 'node:crypto'
import { parentPort } from 'node:worker_threads'

export type ToThread =
  | { readonly id: number; readonly blocks: readonly SharedArrayBuffer[] }
  | { readonly id: number; readonly block: number; readonly length: number }
  | { readonly id: number; readonly over: 'digest' | 'forget' }

export type FromThread =
  | { readonly id: number; readonly block: number }
  | { readonly id: number; readonly digest: string }

type Body = { readonly hash: Hash; readonly blocks: readonly Uint8Array[] }

const bodies = new Map<number, Body>()

function answer(message: ToThread): FromThread | undefined {
  const { id } = message
  if ('blocks' in message) {
    bodies.set(id, { hash: createHash('md5'), blocks: message.blocks.map((block) => new Uint8Array(block)) })
    return undefined
  }
  const body = bodies.get(id)
  if ('block' in message) {
    body?.hash.update(body.blocks[message.block]?.subarray(0, message.length) ?? '')
    return { id, block: message.block }
  }
  bodies.delete(id)
  return message.over === 'digest' && body ? { id, digest: body.hash.digest('hex') } : undefined
}

parentPort?.on('message', (message: ToThread) => {
  const said = answer(message)
  if (said) parentPort?.postMessage(said)
})
