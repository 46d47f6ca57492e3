/** `satchel sweep`: compares the storage with the database and says what does not fit; deletes only when told to. */
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { loadConfig } from '../config.ts'
import { configuredUrls, openDatabase, openStorage } from '../open.ts'
import type { Storage } from '../storage/storage.ts'
import { hasHistory } from '../sweep/rows.ts'
import { compare, type Finding, SMALLEST_AGE_MS, type Totals } from '../sweep/sweep.ts'
import { openProgress, readableBytes } from './progress.ts'

const HELP = `satchel sweep [--delete] [--older-than 24h] [--json]

Compares the storage with the database in both directions: objects without a row, bodies of uploads that were left behind,
complete attachments without their object. Works while the server runs.

  --delete           delete objects without a row and left behind uploads; rows are never touched
  --older-than AGE   leave younger objects alone: 90m, 24h, 7d; default 24h, at least 1h
  --json             a line of JSON for each finding and one for the totals

Exit code 0: everything fits, or was deleted. 1: something is left that does not fit.
`

const UNITS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const TEXTS: Record<Finding['finding'], string> = {
  no_row: 'object without a row',
  staged: 'upload left behind',
  no_object: 'attachment without its object',
  wrong_size: 'object of another size',
}

export async function sweepCommand(argv: string[], out: Out): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      delete: { type: 'boolean' },
      'older-than': { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const olderThanMs = parseAge(values['older-than'] ?? '24h')
  if (olderThanMs === undefined || olderThanMs < SMALLEST_AGE_MS) {
    out.stderr('satchel: --older-than takes 90m, 24h or 7d, and at least 1h, since uploads may be under way\n')
    return 2
  }
  const config = loadConfig()
  await using opened = await openDatabase(config.databaseUrl)
  if (values.delete && !(await hasHistory(opened.db))) {
    out.stderr(
      'satchel: this database never had an attachment; it is not the one of this storage, so nothing is deleted\n',
    )
    return 1
  }
  const storage = await openStorage(configuredUrls(config).storage, {
    exclusive: false,
    credentials: config.s3Credentials,
  })
  const report = new Report(out, { json: values.json ?? false, storage, removes: values.delete ?? false })
  const progress = openProgress()
  const findings = compare({
    db: opened.db,
    storage,
    now: Date.now(),
    olderThanMs,
    onProgress: ({ objects, bytes }) => progress.show(`${objects} objects, ${readableBytes(bytes)}`),
  })
  for (;;) {
    const step = await findings.next()
    progress.clear()
    if (step.done) return report.end(step.value)
    await report.add(step.value)
  }
}

/** Says each finding as it comes, and acts on it. */
class Report {
  readonly #out: Out
  readonly #o: { json: boolean; storage: Storage; removes: boolean }
  readonly #count: Record<Finding['finding'], number> = { no_row: 0, staged: 0, no_object: 0, wrong_size: 0 }
  #deleted = { objects: 0, bytes: 0 }
  #left = 0

  constructor(out: Out, o: { json: boolean; storage: Storage; removes: boolean }) {
    this.#out = out
    this.#o = o
  }

  async add(finding: Finding): Promise<void> {
    this.#count[finding.finding]++
    const isGarbage = finding.finding === 'no_row' || finding.finding === 'staged'
    const deleted = isGarbage && this.#o.removes
    if (deleted) {
      await this.#o.storage.delete(finding.key)
      this.#deleted.objects++
      this.#deleted.bytes += finding.size_bytes
    } else this.#left++
    if (this.#o.json) this.#line({ ...finding, deleted })
    else {
      const id = 'attachment_id' in finding ? `  attachment ${finding.attachment_id}` : ''
      const end = deleted ? '  deleted' : ''
      const size = readableBytes(finding.size_bytes)
      this.#out.stdout(`${TEXTS[finding.finding]}  ${finding.key}  ${size}${id}${end}\n`)
    }
  }

  end(totals: Totals): number {
    if (this.#o.json) this.#line({ ...totals, findings: this.#count, deleted: this.#deleted, left: this.#left })
    else {
      const found = Object.entries(this.#count).filter(([, count]) => count > 0)
      const names = found.map(([name, count]) => `  ${count} × ${TEXTS[name as Finding['finding']]}\n`)
      const { objects, bytes } = this.#deleted
      this.#out.stdout(
        `${totals.objects} objects with ${readableBytes(totals.bytes)}, ${totals.rows} complete attachments.\n` +
          (totals.young > 0 ? `${totals.young} objects are too young to be judged.\n` : '') +
          (totals.foreign > 0 ? `${totals.foreign} objects are not Satchel's and were left alone.\n` : '') +
          (names.length > 0 ? `Findings:\n${names.join('')}` : 'Everything fits.\n') +
          (objects > 0 ? `Deleted ${objects} objects with ${readableBytes(bytes)}.\n` : ''),
      )
    }
    return this.#left > 0 ? 1 : 0
  }

  #line(value: unknown): void {
    this.#out.stdout(`${JSON.stringify(value)}\n`)
  }
}

function parseAge(text: string): number | undefined {
  const [, count = '', unit = ''] = /^(\d{1,6})([mhd])$/.exec(text) ?? []
  return count === '' ? undefined : Number(count) * UNITS[unit as keyof typeof UNITS]
}
