/** `satchel partners create` and `list`; both work while the server runs, since the database does the locking. */
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { systemClock } from '../clock.ts'
import { E164, loadConfig } from '../config.ts'
import { openSqlite } from '../db/sqlite.ts'
import { uuidv7 } from '../ids.ts'
import { ensurePartner, newApiKey, PhoneNumberTaken, phoneNumbersOf } from '../partners/create.ts'
import { listPartners } from '../partners/rows.ts'

const HELP = `satchel partners create --name NAME --phone +E164[,+E164...] [--json]
satchel partners list [--json]

create makes a partner with a new API key and these lines, and prints the key: it is shown only now, since only its
hash is kept. Works while the server runs.
`

export async function partners(argv: string[], out: Out): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      name: { type: 'string' },
      phone: { type: 'string', multiple: true },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  const json = values.json ?? false
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const [action] = positionals
  if (action === 'list') return await list(json, out)
  if (action === 'create') return await create({ name: values.name, phone: values.phone ?? [], json }, out)
  out.stderr(HELP)
  return 2
}

async function create(o: { name: string | undefined; phone: string[]; json: boolean }, out: Out): Promise<number> {
  const phoneNumbers = o.phone.flatMap((text) => text.split(',')).map((text) => text.trim())
  const wrong = phoneNumbers.find((number) => !E164.test(number))
  if (!o.name?.trim() || phoneNumbers.length === 0 || wrong !== undefined) {
    const why =
      wrong === undefined ? '--name and --phone are needed' : `"${wrong}" is not in E.164 format, as +12025550100 is`
    out.stderr(`satchel: ${why}\n`)
    return 2
  }
  await using opened = await openSqlite(loadConfig().databasePath)
  const apiKey = newApiKey()
  const app = { db: opened.db, clock: systemClock, newId: uuidv7(systemClock) }
  try {
    const partnerId = await ensurePartner(app, { name: o.name.trim(), apiKey, phoneNumbers })
    const made = { partner_id: partnerId, api_key: apiKey, phone_numbers: phoneNumbers }
    out.stdout(o.json ? `${JSON.stringify(made)}\n` : describe(made))
    return 0
  } catch (error) {
    if (!(error instanceof PhoneNumberTaken)) throw error
    out.stderr(`satchel: ${error.message}\n`)
    return 1
  }
}

async function list(json: boolean, out: Out): Promise<number> {
  await using opened = await openSqlite(loadConfig().databasePath)
  const rows = []
  for (const { id, name } of await listPartners(opened.db)) {
    rows.push({ partner_id: id, name, phone_numbers: await phoneNumbersOf(opened.db, id) })
  }
  if (json) out.stdout(`${JSON.stringify(rows)}\n`)
  else for (const row of rows) out.stdout(`${row.partner_id}  ${row.name}  ${row.phone_numbers.join(', ')}\n`)
  return 0
}

function describe(made: { partner_id: string; api_key: string; phone_numbers: string[] }): string {
  return `partner        ${made.partner_id}
API key        ${made.api_key}   (shown only now)
phone numbers  ${made.phone_numbers.join(', ')}
`
}
