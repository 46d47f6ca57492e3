/** argv -> one file of cli/. Exit codes: 0 done, 1 it could not be done, 2 the command line was wrong. */
import { ConfigError } from './config.ts'
import { VERSION } from './version.ts'

const HELP = `satchel ${VERSION}: attachments for messaging, wire-compatible with the Linq Partner API v3

  satchel serve                 run the server (API, uploads, CDN, worker)
  satchel check FILE...         tell what a file is and whether it would be accepted
  satchel partners create       make a partner with an API key and phone numbers
  satchel partners list         list partners and their phone numbers
  satchel partners update       make what a partner stores ephemeral, or permanent again
  satchel keys create, revoke   replace an API key by another
  satchel lines list, update    the same for a line
  satchel sweep                 compare the storage with the database, and clean up
  satchel audit                 list what was deleted, when and why
  satchel migrate-data          copy another Satchel's data into this one
  satchel listen                forward every event to a local URL, signed, without a subscription
  satchel trigger EVENT         be a phone: message.received, message.read
  satchel webhooks verify       tell why the signature of a delivery does not fit
  satchel webhooks rotate       give a subscription a new secret, with an overlap
  satchel migrate               bring the database to the newest schema
  satchel config --print        show every variable, its value and what it is for
  satchel --version, --help

Each command has its own --help. Configuration is by SATCHEL_ variables; nothing needs to be set.
`

export type Out = { stdout: (text: string) => void; stderr: (text: string) => void }
type Command = (argv: string[], out: Out) => Promise<number>

/** Loaded when used: `check` should not wait for a server's modules. */
const COMMANDS: Record<string, () => Promise<Command>> = {
  serve: async () => (await import('./cli/serve.ts')).serve,
  check: async () => (await import('./cli/check.ts')).check,
  partners: async () => (await import('./cli/partners.ts')).partners,
  keys: async () => (await import('./cli/keys.ts')).keys,
  lines: async () => (await import('./cli/lines.ts')).lines,
  sweep: async () => (await import('./cli/sweep.ts')).sweepCommand,
  audit: async () => (await import('./cli/audit.ts')).audit,
  'migrate-data': async () => (await import('./cli/migrate-data.ts')).migrateDataCommand,
  listen: async () => (await import('./cli/listen.ts')).listen,
  trigger: async () => (await import('./cli/trigger.ts')).trigger,
  webhooks: async () => (await import('./cli/webhooks.ts')).webhooks,
  migrate: async () => (await import('./cli/migrate.ts')).migrateCommand,
  config: async () => (await import('./cli/config.ts')).configCommand,
}

const out: Out = {
  stdout: (text) => void process.stdout.write(text),
  stderr: (text) => void process.stderr.write(text),
}

async function run([name, ...rest]: string[]): Promise<number> {
  if (name === '--version' || name === '-v') return say(`${VERSION}\n`)
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') return say(HELP)
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (!load) {
    out.stderr(`satchel: there is no command "${name}"; see satchel --help\n`)
    return 2
  }
  try {
    return await (await load())(rest, out)
  } catch (error) {
    if (error instanceof ConfigError) {
      for (const fault of error.faults) out.stderr(`satchel: ${fault}\n`)
      return 1
    }
    if (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')) {
      out.stderr(`satchel: ${error.message}; see satchel ${name} --help\n`)
      return 2
    }
    throw error
  }
}

function say(text: string): number {
  out.stdout(text)
  return 0
}

process.exitCode = await run(process.argv.slice(2))
