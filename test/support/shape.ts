/** Compares JSON with what a contract prints: every key in its order, every null, and patterns where values are made up. */
import assert from 'node:assert/strict'

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
export const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
export const TRACE = /^[0-9a-f]{32}$/

/** `expected`: plain JSON with a RegExp in place of a text that only its form is known of. */
export function assertShape(actual: unknown, expected: unknown, at = '$'): void {
  if (expected instanceof RegExp) {
    assert.equal(typeof actual, 'string', `${at} is ${JSON.stringify(actual)}`)
    assert.match(String(actual), expected, at)
  } else if (Array.isArray(expected)) {
    assert.ok(Array.isArray(actual), `${at} is no list`)
    assert.equal(actual.length, expected.length, `length of ${at}: ${JSON.stringify(actual)}`)
    expected.forEach((item, index) => {
      assertShape(actual[index], item, `${at}[${index}]`)
    })
  } else if (typeof expected === 'object' && expected !== null) {
    assert.ok(typeof actual === 'object' && actual !== null, `${at} is ${JSON.stringify(actual)}`)
    assert.deepEqual(Object.keys(actual), Object.keys(expected), `keys of ${at}`)
    const values = actual as Record<string, unknown>
    for (const [key, value] of Object.entries(expected)) assertShape(values[key], value, `${at}.${key}`)
  } else assert.equal(actual, expected, at)
}
