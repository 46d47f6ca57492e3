/** `satchel partners create`, `list` and `update`; all work while the server runs, since the database does the locking. */
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { systemClock } from '../clock.ts'
import { loadConfig } from '../config.ts'
import type { Bit } from '../db/schema.ts'
import { uuidv7 } from '../ids.ts'
import { openDatabase } from '../open.ts'
import { ensurePartner, newApiKey, PhoneNumberTaken, phoneNumbersOf } from '../partners/create.ts'
import { listPartners, setPartnerTier } from '../partners/rows.ts'
import { E164 } from '../phone-numbers/e164.ts'

const HELP = `satchel partners create --name NAME --phone +E164[,+E164...] [--ephemeral] [--json]
satchel partners list [--json]
satchel partners update PARTNER_ID --ephemeral on|off

create makes a partner with a new API key and these lines, and prints the key: it is shown only now, since only its
hash is kept. --ephemeral: what the partner uploads, sends by URL and receives from then on vanishes after 24 hours;
with update it can be changed for what comes later. Works while the server runs.
`

export async function partners(argv: string[], out: Out): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      name: { type: 'string' },
      phone: { type: 'string', multiple: true },
      // A flag of create, and a setting of update.
      ephemeral: { type: argv[0] === 'update' ? ('string' as const) : ('boolean' as const) },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  const json = values.json ?? false
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const [action, id] = positionals
  const ephemeral = values.ephemeral === true ? 1 : parseSwitch(values.ephemeral)
  if (action === 'list') return await list(json, out)
  if (action === 'create')
    return await create({ name: values.name, phone: values.phone ?? [], ephemeral: ephemeral ?? 0, json }, out)
  if (action === 'update' && id !== undefined && ephemeral !== undefined) return await update(id, ephemeral, out)
  out.stderr(HELP)
  return 2
}

async function create(
  o: { name: string | undefined; phone: string[]; ephemeral: Bit; json: boolean },
  out: Out,
): Promise<number> {
  const phoneNumbers = o.phone.flatMap((text) => text.split(',')).map((text) => text.trim())
  const wrong = phoneNumbers.find((number) => !E164.test(number))
  if (!o.name?.trim() || phoneNumbers.length === 0 || wrong !== undefined) {
    const why =
      wrong === undefined ? '--name and --phone are needed' : `"${wrong}" is not in E.164 format, as +12025550100 is`
    out.stderr(`satchel: ${why}\n`)
    return 2
  }
  await using opened = await openDatabase(loadConfig().databaseUrl)
  const apiKey = newApiKey()
  const app = { db: opened.db, clock: systemClock, newId: uuidv7(systemClock) }
  try {
    const partnerId = await ensurePartner(app, { name: o.name.trim(), apiKey, phoneNumbers, ephemeral: o.ephemeral })
    const made = { partner_id: partnerId, api_key: apiKey, phone_numbers: phoneNumbers, ephemeral: o.ephemeral === 1 }
    out.stdout(o.json ? `${JSON.stringify(made)}\n` : describe(made))
    return 0
  } catch (error) {
    if (!(error instanceof PhoneNumberTaken)) throw error
    out.stderr(`satchel: ${error.message}\n`)
    return 1
  }
}

async function list(json: boolean, out: Out): Promise<number> {
  await using opened = await openDatabase(loadConfig().databaseUrl)
  const rows = []
  for (const { id, name, ephemeral } of await listPartners(opened.db)) {
    rows.push({
      partner_id: id,
      name,
      phone_numbers: await phoneNumbersOf(opened.db, id),
      ephemeral: ephemeral === 1,
    })
  }
  if (json) out.stdout(`${JSON.stringify(rows)}\n`)
  else {
    for (const row of rows) {
      const tier = row.ephemeral ? '  (ephemeral)' : ''
      out.stdout(`${row.partner_id}  ${row.name}  ${row.phone_numbers.join(', ')}${tier}\n`)
    }
  }
  return 0
}

async function update(id: string, ephemeral: Bit, out: Out): Promise<number> {
  await using opened = await openDatabase(loadConfig().databaseUrl)
  if (await setPartnerTier(opened.db, id, ephemeral)) {
    out.stdout(`${id} is ${ephemeral ? 'ephemeral' : 'permanent'} from now on; what it has stays as it is.\n`)
    return 0
  }
  out.stderr(`satchel: there is no partner ${id}; see satchel partners list\n`)
  return 1
}

/** `on` or `off`; undefined for anything else, which is answered with the help text. */
export function parseSwitch(text: unknown): Bit | undefined {
  if (text === 'on') return 1
  return text === 'off' ? 0 : undefined
}

function describe(made: { partner_id: string; api_key: string; phone_numbers: string[]; ephemeral: boolean }): string {
  return `partner        ${made.partner_id}
API key        ${made.api_key}   (shown only now)
phone numbers  ${made.phone_numbers.join(', ')}
tier           ${made.ephemeral ? 'ephemeral: attachments vanish after 24 hours' : 'permanent'}
`
}
