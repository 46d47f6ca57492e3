/** `satchel audit`: what was deleted, oldest first. The record is kept for ever; it holds ids and times, and no names. */
import { parseArgs } from 'node:util'
import { listDeletions } from '../attachments/rows.ts'
import type { Out } from '../cli.ts'
import { loadConfig } from '../config.ts'
import { iso } from '../http/schemas.ts'
import { openDatabase } from '../open.ts'

const HELP = `satchel audit [--partner PARTNER_ID] [--since TIME] [--json]

Lists deleted attachments, oldest first: when, whose, which, and why ("request": the API was asked to, "vanished": its
24 hours were over).

  --since TIME   only from then on, e.g. 2026-02-16 or 2026-02-16T12:30:00Z
  --json         a line of JSON for each
`

export async function audit(argv: string[], out: Out): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      partner: { type: 'string' },
      since: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const since = values.since === undefined ? 0 : Date.parse(values.since)
  if (Number.isNaN(since)) {
    out.stderr(`satchel: --since: "${values.since}" is not a time, as 2026-02-16T12:30:00Z is\n`)
    return 2
  }
  await using opened = await openDatabase(loadConfig().databaseUrl)
  for await (const row of listDeletions(opened.db, { partnerId: values.partner, since })) {
    const shown = { ...row, deleted_at: iso(row.deleted_at) }
    if (values.json) out.stdout(`${JSON.stringify(shown)}\n`)
    else out.stdout(`${shown.deleted_at}  ${row.partner_id}  ${row.attachment_id}  ${row.reason}\n`)
  }
  return 0
}
