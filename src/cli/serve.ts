/** `satchel serve`: runs until it is told to stop, and says at start all that a caller needs to know. */
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { ROLES, type Role } from '../config/roles.ts'
import { loadConfig } from '../config.ts'
import type { Satchel } from '../main.ts'
import { keepNurserySmall, letNurseryGrow } from '../nursery.ts'
import { VERSION } from '../version.ts'

const HELP = `satchel serve [--role api|edge|worker|all[,...]]

Runs until SIGTERM or SIGINT, which finish what is under way. Configuration is by SATCHEL_ variables: satchel config --print
shows them all. --role says what this node does of the whole, where several share one PostgreSQL and one storage:

  api     the JSON API on SATCHEL_PORT
  edge    uploads and the CDN on SATCHEL_CDN_PORT
  worker  durable jobs and webhooks
  all     all three (default)

A node without the API serves /healthz, /readyz and /metrics on SATCHEL_PORT.
`

export async function serve(argv: string[], out: Out): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: { role: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const roles = parseRoles(values.role ?? 'all')
  if (!roles) {
    out.stderr(`satchel: --role takes ${ROLES.join(', ')} or all, with commas between several\n`)
    return 2
  }
  const config = loadConfig(undefined, roles)
  const told = stopSignal()
  keepNurserySmall()
  const { startSatchel } = await import('../main.ts')
  const satchel = await startSatchel(config)
  letNurseryGrow()
  out.stdout(banner(satchel, config.apiKey !== undefined))
  await told
  await satchel.stop()
  return 0
}

/** In the order of ROLES; undefined when a name is not known. */
function parseRoles(text: string): Role[] | undefined {
  const names = text.split(',').map((name) => name.trim())
  const isKnown = names.every((name) => name === 'all' || ROLES.some((role) => role === name))
  return isKnown ? ROLES.filter((role) => names.includes('all') || names.includes(role)) : undefined
}

function banner({ roles, urls, partner }: Satchel, isConfigured: boolean): string {
  if (!partner) {
    const cdn = roles.includes('edge') ? `  CDN            ${urls.cdn}\n` : ''
    return `Satchel ${VERSION} is ready.\n\n  Roles          ${roles.join(', ')}\n${cdn}  Health         ${urls.api}/healthz\n\n`
  }
  const base = `${urls.api}/api/partner`
  const { apiKey, phoneNumbers } = partner
  return `Satchel ${VERSION} is ready.

  API base URL   ${base}
  API key        ${isConfigured ? 'as set in SATCHEL_API_KEY' : apiKey}
  Phone numbers  ${phoneNumbers.join(', ')}
  CDN            ${urls.cdn}
  Reference      ${urls.api}/docs
  Roles          ${roles.join(', ')}

For the official SDKs:

  export LINQ_API_V3_BASE_URL=${base}
  export LINQ_API_V3_API_KEY=${isConfigured ? '"$SATCHEL_API_KEY"' : apiKey}

`
}

/** Heard from the first moment on, so that a start is finished and taken down again. A second signal ends the process at once. */
function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve())
  })
}
