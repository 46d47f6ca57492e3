import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RemoteErrorKind } from '../remote/error.ts'
import { nextAttemptAt, outcomeOf } from './schedule.ts'

const NOW = Date.parse('2026-02-16T12:00:00Z')

function pauseAfter(attempt: number, o: { random?: number; retryAfter?: string } = {}): number {
  const at = nextAttemptAt({ attempt, now: NOW, retryAfter: o.retryAfter, random: () => o.random ?? 0.5 })
  return at === 'never' ? Number.NaN : at - NOW
}

test('ten retries, from 2 seconds doubling up to 10 minutes, then never', () => {
  const pauses = Array.from({ length: 10 }, (_, i) => pauseAfter(i + 1) / 1000)
  assert.deepEqual(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600])
  const minutes = pauses.reduce((sum, pause) => sum + pause) / 60
  assert.ok(minutes > 25 && minutes < 28, `${minutes} minutes in all`)
  assert.equal(nextAttemptAt({ attempt: 11, now: NOW, random: Math.random }), 'never')
  assert.equal(nextAttemptAt({ attempt: 11, now: NOW, retryAfter: '5', random: Math.random }), 'never')
})

test('chance makes a pause up to 20 % shorter or longer, never longer than 10 minutes', () => {
  assert.equal(pauseAfter(1, { random: 0 }), 1600)
  assert.equal(pauseAfter(1, { random: 1 }), 2400)
  assert.equal(pauseAfter(10, { random: 0 }), 480_000)
  assert.equal(pauseAfter(10, { random: 1 }), 600_000)
})

test('Retry-After puts a try off, in seconds or as a date, by an hour at most', () => {
  assert.equal(pauseAfter(1, { retryAfter: '90' }), 90_000)
  assert.equal(pauseAfter(1, { retryAfter: ' 90 ' }), 90_000)
  assert.equal(pauseAfter(1, { retryAfter: '86400' }), 3_600_000)
  assert.equal(pauseAfter(1, { retryAfter: '9'.repeat(400) }), 3_600_000)
  for (const date of ['Mon, 16 Feb 2026 12:01:30 GMT', 'Monday, 16-Feb-26 12:01:30 GMT', 'Mon Feb 16 12:01:30 2026']) {
    assert.equal(pauseAfter(1, { retryAfter: date }), 90_000, date)
  }
  assert.equal(pauseAfter(1, { retryAfter: 'Tue, 16 Feb 2027 12:00:00 GMT' }), 3_600_000)
})

test('Retry-After never brings a try forward, and nonsense in it is ignored', () => {
  for (const retryAfter of [
    '0',
    '1',
    '',
    '-5',
    '1.5',
    '1e9',
    'soon',
    'Mon, 16 Feb 2026 11:00:00 GMT',
    'Mon, 99 Foo 2026 12:00:00 GMT',
    '2026-02-16T13:00:00Z',
  ]) {
    assert.equal(pauseAfter(1, { retryAfter }), 2000, JSON.stringify(retryAfter))
  }
})

test('what an answer, or none, means', () => {
  const expected = {
    delivered: [200, 201, 204, 299],
    retry: [408, 429, 500, 502, 503, 504, 599],
    failed: [100, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 409, 413, 422, 499],
    gone: [410],
  }
  for (const [outcome, statuses] of Object.entries(expected)) {
    for (const status of statuses) assert.equal(outcomeOf(status), outcome, String(status))
  }
  const ofErrors: Record<RemoteErrorKind, string> = {
    refused: 'retry',
    tls: 'retry',
    timeout: 'retry',
    network: 'retry',
    dns: 'failed',
    forbidden: 'failed',
  }
  for (const [kind, outcome] of Object.entries(ofErrors)) {
    assert.equal(outcomeOf(kind as RemoteErrorKind), outcome, kind)
  }
})
