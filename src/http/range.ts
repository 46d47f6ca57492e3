/**
 * Conditional requests and ranges: from request headers and what is known of a file to status, slice and headers.
 * Pure. Follows RFC 9110 §13 (conditions, in the order of §13.2.2) and §14 (ranges).
 * Several ranges in one request are answered with the whole file, which §14.2 permits: no media player asks for them, and
 * multipart answers to overlapping ranges are a known way to exhaust a server.
 */

export type RangeRequest = {
  readonly method: string
  /** As Node gives them: lower-case names, one string each. */
  readonly headers: {
    readonly range?: string | undefined
    readonly 'if-range'?: string | undefined
    readonly 'if-match'?: string | undefined
    readonly 'if-none-match'?: string | undefined
    readonly 'if-modified-since'?: string | undefined
    readonly 'if-unmodified-since'?: string | undefined
  }
}

export type RangeFile = {
  /** Bytes. */
  readonly size: number
  /** Strong entity tag with its quotes: `"9f86d081"`. */
  readonly etag: string
  /** Milliseconds since 1970; compared in whole seconds, as HTTP dates are. */
  readonly modified: number
}

export type RangeAnswer = {
  status: 200 | 206 | 304 | 412 | 416
  /** First and last byte to send, both inclusive; `end` is `start - 1` when there is nothing to send. */
  start: number
  end: number
  headers: Record<string, string>
}

/**
 * How to answer GET or HEAD for `file`. The headers are complete but for Content-Type, Content-Disposition and caching.
 * A HEAD is answered like its GET without Range (§14.2 defines Range for GET alone); the caller leaves its body out.
 * A Range with faulty syntax is ignored, an unsatisfiable one answers 416 with `bytes *\/size`.
 */
export function answer(request: RangeRequest, file: RangeFile): RangeAnswer {
  const { headers } = request
  const validators = { ETag: file.etag, 'Last-Modified': new Date(file.modified).toUTCString() }
  const modified = Math.floor(file.modified / 1000) * 1000

  const condition = precondition(headers, file.etag, modified)
  if (condition === 412) return { status: 412, start: 0, end: -1, headers: { 'Content-Length': '0' } }
  if (condition === 304) return { status: 304, start: 0, end: -1, headers: { ...validators, 'Accept-Ranges': 'bytes' } }

  const common = { ...validators, 'Accept-Ranges': 'bytes' }
  const wanted =
    request.method === 'GET' && headers.range !== undefined && isCurrent(headers['if-range'], file.etag, modified)
  const range = wanted ? parseRange(headers.range ?? '', file.size) : 'whole'
  if (range === 'whole')
    return { status: 200, start: 0, end: file.size - 1, headers: { ...common, 'Content-Length': `${file.size}` } }
  if (range === 'unsatisfiable')
    return {
      status: 416,
      start: 0,
      end: -1,
      headers: { 'Accept-Ranges': 'bytes', 'Content-Range': `bytes */${file.size}`, 'Content-Length': '0' },
    }
  const { start, end } = range
  return {
    status: 206,
    start,
    end,
    headers: {
      ...common,
      'Content-Range': `bytes ${start}-${end}/${file.size}`,
      'Content-Length': `${end - start + 1}`,
    },
  }
}

function precondition(headers: RangeRequest['headers'], etag: string, modified: number): 304 | 412 | undefined {
  const match = headers['if-match']
  if (match !== undefined) {
    if (match.trim() !== '*' && !entityTags(match).includes(etag)) return 412
  } else {
    const since = parseHttpDate(headers['if-unmodified-since'])
    if (since !== undefined && modified > since) return 412
  }
  const noneMatch = headers['if-none-match']
  if (noneMatch !== undefined) {
    const weak = entityTags(noneMatch).map((tag) => tag.replace(/^W\//, ''))
    return noneMatch.trim() === '*' || weak.includes(etag) ? 304 : undefined
  }
  const since = parseHttpDate(headers['if-modified-since'])
  return since !== undefined && modified <= since ? 304 : undefined
}

/** If-Range (§13.1.5): a strong tag or a date that equals ours; a weak tag never does. Absent means yes. */
function isCurrent(ifRange: string | undefined, etag: string, modified: number): boolean {
  if (ifRange === undefined) return true
  return ifRange.trim() === etag || parseHttpDate(ifRange) === modified
}

/** One range of §14.1.2. Positions beyond 2^53 lose precision but stay far beyond any file. */
function parseRange(text: string, size: number): { start: number; end: number } | 'whole' | 'unsatisfiable' {
  const parts = /^\s*bytes=\s*(\d*)-(\d*)\s*$/i.exec(text)
  const [, first = '', last = ''] = parts ?? []
  if (first === '' && last === '') return 'whole'
  if (first === '') {
    const length = Math.min(Number(last), size)
    if (Number(last) === 0) return 'unsatisfiable'
    // The end of an empty file is satisfiable, but no Content-Range can say so.
    return size === 0 ? 'whole' : { start: size - length, end: size - 1 }
  }
  const start = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < start) return 'whole'
  return start >= size ? 'unsatisfiable' : { start, end }
}

const entityTags = (list: string): string[] => list.match(/(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/g) ?? []

/** The three forms of §5.6.7 as ms; anything else is undefined and so ignored. */
function parseHttpDate(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const fixed = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/
  const rfc850 = /^[A-Z][a-z]{5,8}, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT$/
  const asctime = /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/
  const trimmed = text.trim()
  const ms = asctime.test(trimmed)
    ? Date.parse(`${trimmed} GMT`)
    : fixed.test(trimmed) || rfc850.test(trimmed)
      ? Date.parse(trimmed)
      : Number.NaN
  return Number.isNaN(ms) ? undefined : ms
}
