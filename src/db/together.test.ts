/** Writes that come together are one, and each who asked hears what became of its own. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { Failure } from '../failure.ts'
import { together } from './together.ts'
import { persist } from './transaction.ts'

test('what is asked for in one turn is one write, and what comes while it is under way the next', async () => {
  const writes: string[][] = []
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const add = together<string>(async (items) => {
    writes.push(items)
    await gates[writes.length - 1]?.promise
    return new Set(items)
  })
  const first = ['a', 'b', 'c'].map(add)
  await setImmediate()
  const second = ['d', 'e'].map(add)
  await setImmediate()
  assert.deepEqual(writes, [['a', 'b', 'c']])
  gates[0]?.resolve()
  assert.deepEqual(await Promise.all(first), [true, true, true])
  assert.deepEqual(writes, [
    ['a', 'b', 'c'],
    ['d', 'e'],
  ])
  gates[1]?.resolve()
  assert.deepEqual(await Promise.all(second), [true, true])
  assert.equal(await add('f'), true)
})

test('a write has an end to its size', async () => {
  const sizes: number[] = []
  const add = together<number>(async (items) => {
    sizes.push(items.length)
    return new Set(items)
  })
  await Promise.all(Array.from({ length: 200 }, (_, index) => add(index)))
  assert.deepEqual(sizes, [64, 64, 64, 8])
})

test('who was left out, or failed because of another, is told to do it alone', async () => {
  const add = together<string>(async (items) => {
    if (items.includes('bad')) throw new Error('a row that cannot be written')
    return new Set(items.filter((item) => item !== 'left out'))
  })
  assert.deepEqual(await Promise.all(['a', 'left out', 'b'].map(add)), [true, false, true])
  assert.deepEqual(await Promise.all(['a', 'bad', 'b'].map(add)), [false, false, false])
  assert.equal(await add('a'), true)
})

test('while the database is away each tries again, until it is told to stop', async () => {
  let isAway = true
  const writes: string[][] = []
  const add = together<string>(async (items) => {
    if (isAway) throw new Failure('database_unavailable')
    writes.push(items)
    return new Set(items)
  })
  const stopping = new AbortController()
  const ask = (item: string, signal: AbortSignal) => persist(async () => void (await add(item)), signal)
  const stays = ['a', 'b'].map((item) => ask(item, new AbortController().signal))
  const stops = ask('c', stopping.signal)
  await setImmediate()
  stopping.abort()
  await assert.rejects(stops, { failure: 'database_unavailable' })
  isAway = false
  await Promise.all(stays)
  assert.deepEqual(writes, [['a', 'b']])
})
