import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { contentDisposition, FILE_SECURITY_HEADERS, INLINE_TYPES } from './disposition.ts'

describe('contentDisposition', () => {
  for (const [name, expected] of [
    ['photo.jpg', 'filename="photo.jpg"'],
    ['my photo (1), final; v2.jpg', 'filename="my photo (1), final; v2.jpg"'],
    ["it's.jpg", `filename="it's.jpg"`],
    ['100%.txt', 'filename="100%.txt"'],
    ['naïve.txt', `filename="na_ve.txt"; filename*=UTF-8''na%C3%AFve.txt`],
    ['€ rates.txt', `filename="_ rates.txt"; filename*=UTF-8''%E2%82%AC%20rates.txt`],
    ['🎉.png', `filename="_.png"; filename*=UTF-8''%F0%9F%8E%89.png`],
    ["a'(b)*ü!.txt", `filename="a'(b)*_!.txt"; filename*=UTF-8''a%27%28b%29%2A%C3%BC!.txt`],
    ['say "hi".txt', `filename="say _hi_.txt"; filename*=UTF-8''say%20%22hi%22.txt`],
    ['%41%2e%2E.txt', `filename="_41_2e_2E.txt"; filename*=UTF-8''%2541%252e%252E.txt`],
    ['a\\b/c.txt', 'filename="a_b_c.txt"'],
    ['../../etc/passwd', 'filename=".._.._etc_passwd"'],
    ['x\r\nSet-Cookie: a=b', 'filename="x__Set-Cookie: a=b"'],
    ['nul\0tab\tdel\x7f\x85.txt', 'filename="nul_tab_del__.txt"'],
    ['a\u2028b\u2029c', 'filename="a_b_c"'],
    ['photo\u202egpj.exe', 'filename="photogpj.exe"'],
    ['x"; filename="evil.exe', `filename="x_; filename=_evil.exe"; filename*=UTF-8''x%22%3B%20filename%3D%22evil.exe`],
    ['lone \ud800 half.txt', `filename="lone _ half.txt"; filename*=UTF-8''lone%20%EF%BF%BD%20half.txt`],
    ['', 'filename="file"'],
    ['   ', 'filename="file"'],
    ['.', 'filename="file"'],
    ['..', 'filename="file"'],
    ['.bashrc', 'filename=".bashrc"'],
  ] as const)
    test(`${JSON.stringify(name)} becomes ${expected}`, () => {
      assert.equal(contentDisposition(name, 'application/zip'), `attachment; ${expected}`)
    })

  test('a very long name is cut between characters and keeps its extension', () => {
    const value = contentDisposition(`${'🎉'.repeat(5000)}.jpeg`, 'image/jpeg')
    assert.equal(decodeURIComponent(value.split("UTF-8''")[1] ?? ''), `${'🎉'.repeat(250)}.jpeg`)
    assert.ok(value.length < 3400)
    assert.equal(contentDisposition('a'.repeat(300), 'image/jpeg'), `inline; filename="${'a'.repeat(255)}"`)
  })

  test('whatever the name, the value is one line of printable ASCII that a header may hold', () => {
    for (let code = 0; code <= 0xffff; code += code < 0x300 ? 1 : 7) {
      const value = contentDisposition(`a${String.fromCharCode(code)}%41"b.txt`, 'text/plain')
      assert.match(value, /^inline; filename="[ !#-[\]-~]*"; filename\*=UTF-8''[\w.!~%-]*$/)
      assert.doesNotThrow(() => new Headers({ 'content-disposition': value }))
    }
  })

  test('shows inert types in the page, whatever the parameters and case', () => {
    for (const type of [...INLINE_TYPES, 'TEXT/Plain; charset=utf-8', ' image/png '])
      assert.equal(contentDisposition('a', type), 'inline; filename="a"', type)
  })

  test('saves what can run or what the sandbox would break', () => {
    for (const type of [
      'text/html',
      'image/svg+xml',
      'application/pdf',
      'application/xhtml+xml',
      'text/xml',
      'text/csv',
      'text/calendar',
      'application/octet-stream',
      'image/',
      '',
      'text/html; image/png',
    ])
      assert.equal(contentDisposition('a', type), 'attachment; filename="a"', type)
  })
})

test('every served file is sandboxed, unsniffed and embeddable', () => {
  assert.match(FILE_SECURITY_HEADERS['Content-Security-Policy'] ?? '', /^default-src 'none'; .*sandbox$/)
  assert.doesNotMatch(FILE_SECURITY_HEADERS['Content-Security-Policy'] ?? '', /allow-|script-src/)
  assert.equal(FILE_SECURITY_HEADERS['X-Content-Type-Options'], 'nosniff')
  assert.equal(FILE_SECURITY_HEADERS['Cross-Origin-Resource-Policy'], 'cross-origin')
})
