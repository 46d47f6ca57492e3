/** `satchel lines list` and `update`: the phone numbers of all partners, and which of them are ephemeral. */
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { loadConfig } from '../config.ts'
import { openDatabase } from '../open.ts'
import { listLines, setLineTier } from '../partners/rows.ts'
import { E164 } from '../phone-numbers/e164.ts'
import { parseSwitch } from './partners.ts'

const HELP = `satchel lines list [--json]
satchel lines update +E164 --ephemeral on|off

With --ephemeral on, what is sent or received with this line vanishes 24 hours after it came in. An attachment that was
uploaded before follows when it is used with the line. Works while the server runs.
`

export async function lines(argv: string[], out: Out): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      ephemeral: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const [action, phoneNumber = ''] = positionals
  const ephemeral = parseSwitch(values.ephemeral)
  if (action === 'list') return await list(values.json ?? false, out)
  if (action !== 'update' || !E164.test(phoneNumber) || ephemeral === undefined) {
    out.stderr(HELP)
    return 2
  }
  await using opened = await openDatabase(loadConfig().databaseUrl)
  if (await setLineTier(opened.db, phoneNumber, ephemeral)) {
    out.stdout(`${phoneNumber} is ${ephemeral ? 'ephemeral' : 'permanent'} from now on.\n`)
    return 0
  }
  out.stderr(`satchel: ${phoneNumber} is not a line of ours; see satchel lines list\n`)
  return 1
}

async function list(json: boolean, out: Out): Promise<number> {
  await using opened = await openDatabase(loadConfig().databaseUrl)
  const rows = (await listLines(opened.db)).map(({ phone_number, partner_id, ephemeral }) => ({
    phone_number,
    partner_id,
    ephemeral: ephemeral === 1,
  }))
  if (json) out.stdout(`${JSON.stringify(rows)}\n`)
  else {
    for (const row of rows)
      out.stdout(`${row.phone_number}  ${row.partner_id}${row.ephemeral ? '  (ephemeral)' : ''}\n`)
  }
  return 0
}
