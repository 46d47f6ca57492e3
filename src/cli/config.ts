/** `satchel config --print`: every variable there is, from the table that the program itself reads. */
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { loadConfig, printableConfig } from '../config.ts'

const HELP = `satchel config --print

Shows every variable with its value here, secrets masked, and checks them all: exit code 1 when one is wrong.
`

export async function configCommand(argv: string[], out: Out): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: { print: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  })
  if (!values.print || values.help) {
    ;(values.help ? out.stdout : out.stderr)(HELP)
    return values.help ? 0 : 2
  }
  loadConfig()
  for (const { name, value, isSet, about } of printableConfig()) {
    out.stdout(`${name}=${value}${isSet ? '' : '  (default)'}\n    ${about}\n`)
  }
  return 0
}
