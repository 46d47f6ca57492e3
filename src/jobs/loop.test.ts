/** The loop by itself: how soon it looks again. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openLog } from '../log.ts'
import { startLoop } from './loop.ts'

const PIECES = 60

test('what waits behind work that runs begins when that ends, not at the next look', async () => {
  let running = 0
  let done = 0
  const finished = Promise.withResolvers<void>()
  const began = performance.now()
  const loop = startLoop<number>({
    log: openLog('silent'),
    name: 'test',
    capacity: 8,
    // As deliveries of one chat are: one at a time.
    claim: async () => (running === 0 && done < PIECES ? [done] : []),
    renew: async (work) => work,
    async run() {
      running++
      await sleep(5)
      running--
      if (++done === PIECES) finished.resolve()
    },
  })
  await finished.promise
  const took = performance.now() - began
  await loop.stop()
  assert.ok(took < (PIECES * 100) / 2, `${Math.round(took)} ms`)
})

test('an end that falls into the look for more is not missed', async () => {
  const first = Promise.withResolvers<void>()
  const begun: number[] = []
  const looks: number[] = []
  const loop = startLoop<number>({
    log: openLog('silent'),
    name: 'test',
    capacity: 8,
    async claim() {
      looks.push(performance.now())
      if (looks.length === 1) return [1]
      if (looks.length !== 2) return []
      first.resolve()
      await sleep(20)
      return []
    },
    renew: async (work) => work,
    run: async (work) => {
      begun.push(work)
      await first.promise
    },
  })
  while (looks.length < 3) await sleep(1)
  await loop.stop()
  assert.deepEqual(begun, [1])
  const [, second = 0, third = 0] = looks
  assert.ok(third - second < 100, `looked again after ${Math.round(third - second)} ms`)
})
