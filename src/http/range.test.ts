import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { answer, type RangeRequest } from './range.ts'

const modified = Date.UTC(2026, 1, 16, 12, 30, 0) + 678
const lastModified = 'Mon, 16 Feb 2026 12:30:00 GMT'
const file = { size: 1000, etag: '"abc"', modified }
const get = (headers: RangeRequest['headers'] = {}, size = 1000, method = 'GET') =>
  answer({ method, headers }, { ...file, size })

/** What a range header comes to: the status alone, or the slice of a 206. */
const slice = (range: string, size = 1000) => {
  const { status, start, end } = get({ range }, size)
  return status === 206 ? `${start}-${end}` : status
}

describe('without Range', () => {
  test('the whole file with its validators', () => {
    assert.deepEqual(get(), {
      status: 200,
      start: 0,
      end: 999,
      headers: { ETag: '"abc"', 'Last-Modified': lastModified, 'Accept-Ranges': 'bytes', 'Content-Length': '1000' },
    })
  })

  test('an empty file has no last byte', () => {
    const { status, start, end, headers } = get({}, 0)
    assert.deepEqual([status, start, end, headers['Content-Length']], [200, 0, -1, '0'])
  })
})

describe('Range', () => {
  test('bytes=0-1 is exactly two bytes and 206, as Safari asks before it plays', () => {
    assert.deepEqual(get({ range: 'bytes=0-1' }), {
      status: 206,
      start: 0,
      end: 1,
      headers: {
        ETag: '"abc"',
        'Last-Modified': lastModified,
        'Accept-Ranges': 'bytes',
        'Content-Range': 'bytes 0-1/1000',
        'Content-Length': '2',
      },
    })
  })

  test('a range past the end answers 416 with the full size', () => {
    assert.deepEqual(get({ range: 'bytes=1000-' }), {
      status: 416,
      start: 0,
      end: -1,
      headers: { 'Accept-Ranges': 'bytes', 'Content-Range': 'bytes */1000', 'Content-Length': '0' },
    })
  })

  for (const [range, expected] of [
    ['bytes=0-', '0-999'],
    ['bytes=0-0', '0-0'],
    ['bytes=999-', '999-999'],
    ['bytes=500-600', '500-600'],
    ['bytes=500-5000', '500-999'],
    ['bytes=-1', '999-999'],
    ['bytes=-1000', '0-999'],
    ['bytes=-5000', '0-999'],
    ['bytes=00000000000000000000001-0002', '1-2'],
    ['BYTES=1-2', '1-2'],
    ['  bytes=1-2  ', '1-2'],
    ['bytes=0-9007199254740993', '0-999'],
    ['bytes=-99999999999999999999999999', '0-999'],
    [`bytes=1-${'9'.repeat(400)}`, '1-999'],
    ['bytes=9007199254740993-', 416],
    [`bytes=${'9'.repeat(400)}-`, 416],
    ['bytes=1000-1000', 416],
    ['bytes=-0', 416],
    ['bytes=2-1', 200],
    ['bytes=-', 200],
    ['bytes=', 200],
    ['bytes', 200],
    ['', 200],
    ['bytes=a-b', 200],
    ['bytes=1', 200],
    ['bytes=1-2-3', 200],
    ['bytes=--1', 200],
    ['bytes=1 - 2', 200],
    ['bytes=+1-2', 200],
    ['bytes=0x1-0x2', 200],
    ['bytes=1.0-2', 200],
    ['bytes=١-٢', 200],
    ['bytes = 1-2', 200],
    ['items=0-1', 200],
    ['bytes=0-1,5-6', 200],
    ['bytes=0-1, -1', 200],
    ['bytes=0-1,', 200],
  ] as const)
    test(`${range.slice(0, 40)} of 1000 bytes comes to ${expected}`, () => assert.equal(slice(range), expected))

  test('an empty file satisfies no range but its end', () => {
    assert.equal(slice('bytes=0-', 0), 416)
    assert.equal(slice('bytes=0-0', 0), 416)
    assert.equal(slice('bytes=-0', 0), 416)
    assert.equal(slice('bytes=-5', 0), 200)
    assert.equal(get({ range: 'bytes=0-' }, 0).headers['Content-Range'], 'bytes */0')
  })

  test('is ignored for HEAD', () => {
    assert.deepEqual(get({ range: 'bytes=0-1' }, 1000, 'HEAD'), get())
    assert.equal(get({ range: 'bytes=5000-' }, 1000, 'HEAD').status, 200)
  })
})

describe('If-Range', () => {
  for (const [ifRange, status] of [
    ['"abc"', 206],
    [' "abc" ', 206],
    ['W/"abc"', 200],
    ['"other"', 200],
    ['abc', 200],
    ['*', 200],
    ['"abc", "def"', 200],
    [lastModified, 206],
    ['Mon, 16 Feb 2026 12:30:01 GMT', 200],
    ['Mon, 16 Feb 2026 12:29:59 GMT', 200],
    ['nonsense', 200],
    ['', 200],
  ] as const)
    test(`${ifRange} answers ${status}`, () => {
      assert.equal(get({ range: 'bytes=0-1', 'if-range': ifRange }).status, status)
    })

  test('without agreement hides even an unsatisfiable range', () => {
    assert.equal(get({ range: 'bytes=5000-', 'if-range': '"other"' }).status, 200)
  })
})

describe('conditions', () => {
  test('304 keeps the validators and sends nothing', () => {
    assert.deepEqual(get({ 'if-none-match': '"abc"' }), {
      status: 304,
      start: 0,
      end: -1,
      headers: { ETag: '"abc"', 'Last-Modified': lastModified, 'Accept-Ranges': 'bytes' },
    })
  })

  const later = 'Tue, 17 Feb 2026 00:00:00 GMT'
  const earlier = 'Sun, 15 Feb 2026 00:00:00 GMT'
  const cases: [RangeRequest['headers'], number][] = [
    [{ 'if-none-match': 'W/"abc"' }, 304],
    [{ 'if-none-match': '"x,y", W/"z" ,"abc"' }, 304],
    [{ 'if-none-match': '*' }, 304],
    [{ 'if-none-match': '"other"' }, 200],
    [{ 'if-none-match': 'abc' }, 200],
    [{ 'if-none-match': '"ab"' }, 200],
    [{ 'if-none-match': '"abc"', range: 'bytes=0-1' }, 304],
    [{ 'if-none-match': '"other"', 'if-modified-since': later }, 200],
    [{ 'if-modified-since': lastModified }, 304],
    [{ 'if-modified-since': later }, 304],
    [{ 'if-modified-since': earlier }, 200],
    [{ 'if-modified-since': 'Monday, 16-Feb-26 12:30:00 GMT' }, 304],
    [{ 'if-modified-since': 'Mon Feb 16 12:30:00 2026' }, 304],
    [{ 'if-modified-since': 'Mon Feb 16 12:29:59 2026' }, 200],
    [{ 'if-modified-since': '2026-02-17' }, 200],
    [{ 'if-modified-since': 'Mon, 99 Foo 2026 12:30:00 GMT' }, 200],
    [{ 'if-match': '"abc"' }, 200],
    [{ 'if-match': '"x", "abc"', range: 'bytes=0-1' }, 206],
    [{ 'if-match': '*' }, 200],
    [{ 'if-match': 'W/"abc"' }, 412],
    [{ 'if-match': '"other"' }, 412],
    [{ 'if-match': '"other"', 'if-none-match': '"abc"' }, 412],
    [{ 'if-unmodified-since': earlier }, 412],
    [{ 'if-unmodified-since': lastModified }, 200],
    [{ 'if-match': '"abc"', 'if-unmodified-since': earlier }, 200],
  ]
  for (const [headers, status] of cases)
    test(`${JSON.stringify(headers)} answers ${status}`, () => assert.equal(get(headers).status, status))

  test('hold for HEAD as well', () => {
    assert.equal(get({ 'if-none-match': '"abc"' }, 1000, 'HEAD').status, 304)
  })
})
