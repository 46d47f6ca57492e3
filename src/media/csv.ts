/**
 * Is this text a table? Comma or semicolon, at least two records of at least two columns, the same number of columns in
 * nine of ten records, and nothing that looks like prose or program code. One record cannot be told from a sentence.
 */

const MAX_RECORDS = 500
const LONG_FIELD = 120
const CODE = /[{}]|^\s*(function|return|const|class|import|def|var|let|void|public|private)\s+[\w(*]/

/** `isWhole`: the text is the whole file; otherwise its last line is cut and not looked at. */
export function isCsv(text: string, isWhole: boolean): boolean {
  const body = text.replace(/^(#[^\r\n]*(\r\n?|\n))+/, '')
  return [',', ';'].some((delimiter) => isTable(body, delimiter, isWhole))
}

function isTable(text: string, delimiter: string, isWhole: boolean): boolean {
  const { records, cut, quoted } = parse(text, delimiter)
  if (cut && !isWhole) records.pop()
  const [first] = records
  if (first === undefined || records.length < 2) return false
  const columns = mostCommonLength(records)
  if (columns < 2) return false
  if (!isMostly(records, (record) => record.length === columns)) return false
  if (columns === 2 && isMostly(records, (record) => record.at(-1) === '')) return false // statements and lists in code
  const fields = records.flat()
  if (fields.filter((field) => field.length > LONG_FIELD).length > fields.length / 10) return false
  const delimiters = fields.length - records.length
  const spaced = records.reduce(
    (sum, record) => sum + record.slice(1).filter((field) => field.startsWith(' ')).length,
    0,
  )
  if (spaced > delimiters / 2) return false
  const code = records.filter((record) => record.some((field) => !quoted.has(field) && CODE.test(field))).length
  return code <= records.length / 10
}

/** Nine of ten, and all of fewer than five. */
function isMostly(records: readonly string[][], matches: (record: string[]) => boolean): boolean {
  const count = records.filter(matches).length
  return records.length < 5 ? count === records.length : count >= records.length * 0.9
}

function mostCommonLength(records: readonly string[][]): number {
  const counts = new Map<number, number>()
  for (const { length } of records) counts.set(length, (counts.get(length) ?? 0) + 1)
  return [...counts].reduce((best, next) => (next[1] > best[1] ? next : best), [0, 0])[0]
}

/** RFC 4180 with `\r` alone as a line end too. `cut`: the last record has no line end. Blank lines are no records. */
function parse(text: string, delimiter: string): { records: string[][]; cut: boolean; quoted: Set<string> } {
  const records: string[][] = []
  const quoted = new Set<string>()
  let record: string[] = []
  const field = new RegExp(`"((?:[^"]|"")*)"(?=[${delimiter}\\r\\n]|$)|[^${delimiter}\\r\\n]*`, 'y')
  let at = 0
  while (at < text.length && records.length < MAX_RECORDS) {
    field.lastIndex = at
    const match = field.exec(text)
    const value = match?.[1] ?? match?.[0] ?? ''
    if (match?.[1] !== undefined) quoted.add(value)
    record.push(value)
    at += match?.[0].length ?? 0
    const next = text[at]
    if (next === delimiter) at++
    else if (next === '\r' || next === '\n') {
      at += next === '\r' && text[at + 1] === '\n' ? 2 : 1
      if (record.length > 1 || value !== '') records.push(record)
      record = []
    }
  }
  const cut = record.length > 0
  if (cut) records.push(record)
  return { records, cut, quoted }
}
