import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { gate } from './gate.ts'

const patient = new AbortController().signal

test('so many enter at once, and the next one when a place is free', async () => {
  const { enter } = gate(2)
  const first = await enter(patient)
  await enter(patient)
  let third = false
  const waiting = enter(patient).then(() => {
    third = true
  })
  await setImmediate()
  assert.equal(third, false)
  first[Symbol.dispose]()
  await waiting
  assert.equal(third, true)
})

test('who gives up while waiting takes no place, and who is aborted before does not wait', async () => {
  const { enter } = gate(1)
  const place = await enter(patient)
  const impatient = new AbortController()
  const waiting = enter(impatient.signal)
  impatient.abort(new Error('enough'))
  await assert.rejects(waiting, /enough/)
  await assert.rejects(enter(impatient.signal), /enough/)
  place[Symbol.dispose]()
  await enter(patient)
})
