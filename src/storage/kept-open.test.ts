import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { KeptOpen, type Source } from './kept-open.ts'

const MB = 1024 * 1024

/** Objects whose openings and closings are counted. A small one has its bytes in memory. */
function shelf(sizes: Record<string, { size: number; small: boolean }>) {
  const counts = { opened: 0, closed: 0 }
  const load = async (key: string): Promise<Source | undefined> => {
    const found = sizes[key]
    if (!found) return undefined
    counts.opened++
    await new Promise((resolve) => setImmediate(resolve))
    return {
      size: found.size,
      bytes: found.small ? Buffer.alloc(found.size) : undefined,
      read: async () => 0,
      close: () => counts.closed++,
    }
  }
  return { counts, kept: new KeptOpen(load) }
}

const large = { size: MB, small: false }
const keep = { keep: true }

describe('kept open', () => {
  test('is opened once for all who ask, at the same time or later', async () => {
    const { kept, counts } = shelf({ a: large })
    const readers = await Promise.all([kept.open('a', keep), kept.open('a', keep)])
    for (const reader of readers) reader?.[Symbol.dispose]()
    const later = await kept.open('a', keep)
    assert.deepEqual(counts, { opened: 1, closed: 0 })
    later?.[Symbol.dispose]()
    later?.[Symbol.dispose]()
    assert.deepEqual(kept.idle, { objects: 1, bytes: 0 })
  })

  test('an object that was dropped is closed when its last reader has left, and opened anew for the next', async () => {
    const { kept, counts } = shelf({ a: large })
    const [one, two] = [await kept.open('a', keep), await kept.open('a', keep)]
    kept.drop('a')
    one?.[Symbol.dispose]()
    assert.equal(counts.closed, 0)
    const three = await kept.open('a', keep)
    assert.equal(counts.opened, 2)
    two?.[Symbol.dispose]()
    assert.equal(counts.closed, 1)
    three?.[Symbol.dispose]()
    kept.drop('a')
    assert.deepEqual(counts, { opened: 2, closed: 2 })
    assert.deepEqual(kept.idle, { objects: 0, bytes: 0 })
  })

  test('an object that was dropped while it was being opened is not kept', async () => {
    const { kept, counts } = shelf({ a: large })
    const opening = kept.open('a', keep)
    kept.drop('a')
    const reader = await opening
    reader?.[Symbol.dispose]()
    assert.deepEqual({ ...counts, ...kept.idle }, { opened: 1, closed: 1, objects: 0, bytes: 0 })
  })

  test('one that is not to be kept is closed with its reader', async () => {
    const { kept, counts } = shelf({ a: { size: 10, small: true } })
    const reader = await kept.open('a', { keep: false })
    reader?.[Symbol.dispose]()
    assert.deepEqual({ ...counts, ...kept.idle }, { opened: 1, closed: 1, objects: 0, bytes: 0 })
  })

  test('a missing object and one that cannot be opened are asked for again', async () => {
    const sizes: Parameters<typeof shelf>[0] = {}
    const { kept } = shelf(sizes)
    assert.equal(await kept.open('a', keep), undefined)
    sizes.a = large
    assert.equal((await kept.open('a', keep))?.size, MB)
    let broken = true
    const flaky = new KeptOpen(async () => {
      if (broken) throw new Error('it breaks')
      return undefined
    })
    await assert.rejects(flaky.open('a', keep), /it breaks/)
    broken = false
    assert.equal(await flaky.open('a', keep), undefined)
  })

  test('at most 256 objects and 32 MB are kept without a reader, the last read first', async () => {
    const names = Array.from({ length: 300 }, (_, i) => `large${i}`)
    const small = Array.from({ length: 200 }, (_, i) => `small${i}`)
    const { kept, counts } = shelf({
      ...Object.fromEntries(names.map((name) => [name, large])),
      ...Object.fromEntries(small.map((name) => [name, { size: MB / 4, small: true }])),
    })
    for (const name of names) (await kept.open(name, keep))?.[Symbol.dispose]()
    assert.deepEqual(kept.idle, { objects: 256, bytes: 0 })
    assert.equal(counts.closed, 44)
    for (const name of small) (await kept.open(name, keep))?.[Symbol.dispose]()
    assert.deepEqual(kept.idle, { objects: 128, bytes: 32 * MB })
    const before = counts.opened
    ;(await kept.open('small199', keep))?.[Symbol.dispose]()
    assert.equal(counts.opened, before)
  })

  test('what nobody has read for ten seconds is closed, as another process may have deleted it', async (t) => {
    const { kept, counts } = shelf({ a: large, b: { size: 100, small: true } })
    t.mock.timers.enable({ apis: ['setTimeout', 'Date'] })
    const reader = await kept.open('a', keep)
    ;(await kept.open('b', keep))?.[Symbol.dispose]()
    t.mock.timers.tick(10_000)
    assert.deepEqual({ ...counts, ...kept.idle }, { opened: 2, closed: 1, objects: 0, bytes: 0 })
    t.mock.timers.tick(60_000)
    assert.equal(counts.closed, 1, 'it is still read')
    reader?.[Symbol.dispose]()
    t.mock.timers.tick(10_000)
    assert.equal(counts.closed, 2)
  })
})
