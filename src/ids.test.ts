import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isUuid, newTraceId, randomHex, uuidv7 } from './ids.ts'

const V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const timeOf = (id: string) => Number.parseInt(id.slice(0, 13).replace('-', ''), 16)

describe('uuidv7', () => {
  test('begins with the time and is a lower-case UUID of version 7', () => {
    const now = Date.UTC(2026, 1, 16, 12, 30)
    const id = uuidv7({ now: () => now })()
    assert.match(id, V7)
    assert.equal(timeOf(id), now)
    assert.ok(isUuid(id))
  })

  test('a time of few digits is filled up with zeros', () => {
    const id = uuidv7({ now: () => 1 })()
    assert.match(id, V7)
    assert.equal(timeOf(id), 1)
  })

  test('under a clock that stands still, 100,000 ids are well formed, different and in order', () => {
    const newId = uuidv7({ now: () => 1_700_000_000_000 })
    let last = ''
    for (let i = 0; i < 100_000; i++) {
      const id = newId()
      assert.ok(V7.test(id), id)
      assert.ok(id > last, `${id} after ${last}`)
      last = id
    }
    assert.ok(timeOf(last) - 1_700_000_000_000 < 100, 'borrowed milliseconds are few')
  })

  test('stays in order when the clock goes back, and follows it when it goes on', () => {
    let now = 1_700_000_000_000
    const newId = uuidv7({ now: () => now })
    const first = newId()
    now -= 60_000
    const second = newId()
    assert.ok(second > first)
    now += 120_000
    const third = newId()
    assert.ok(third > second)
    assert.equal(timeOf(third), now)
  })

  test('two makers in one millisecond do not make the same', () => {
    const clock = { now: () => 1_700_000_000_000 }
    const [one, two] = [uuidv7(clock), uuidv7(clock)]
    const all = new Set(Array.from({ length: 20_000 }, (_, i) => (i % 2 ? one() : two())))
    assert.equal(all.size, 20_000)
  })
})

test('isUuid takes any case and nothing else', () => {
  assert.ok(isUuid('550e8400-e29b-41d4-a716-446655440000'))
  assert.ok(isUuid('550E8400-E29B-41D4-A716-446655440000'))
  for (const text of [
    '',
    'x',
    '550e8400e29b41d4a716446655440000',
    '550e8400-e29b-41d4-a716-44665544000',
    ' 550e8400-e29b-41d4-a716-446655440000',
    '550e8400-e29b-41d4-a716-446655440000\n',
    '{550e8400-e29b-41d4-a716-446655440000}',
    'g50e8400-e29b-41d4-a716-446655440000',
  ]) {
    assert.equal(isUuid(text), false, JSON.stringify(text))
  }
})

test('trace ids are 32 lower-case hex digits, new each time', () => {
  const all = Array.from({ length: 1000 }, newTraceId)
  for (const id of all) assert.match(id, /^[0-9a-f]{32}$/)
  assert.equal(new Set(all).size, 1000)
  assert.match(randomHex(3), /^[0-9a-f]{6}$/)
})
