/** `satchel migrate`: the same as every start does, for those who want it to be a step of its own. */
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { loadConfig } from '../config.ts'
import { openDatabase } from '../open.ts'

const HELP = `satchel migrate

Brings the database that SATCHEL_DATABASE_URL names to the newest schema. The server does this at every start as well.
`

export async function migrateCommand(argv: string[], out: Out): Promise<number> {
  const { values } = parseArgs({ args: argv, options: { help: { type: 'boolean', short: 'h' } } })
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  await using opened = await openDatabase(loadConfig().databaseUrl)
  const { migrated } = opened
  out.stdout(migrated.length === 0 ? 'The schema is up to date.\n' : `Migrated: ${migrated.join(', ')}\n`)
  return 0
}
