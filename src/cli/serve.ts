/** `satchel serve`: runs until it is told to stop, and says at start all that a caller needs to know. */
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import type { Out } from '../cli.ts'
import { loadConfig } from '../config.ts'
import type { Satchel } from '../main.ts'
import { VERSION } from '../version.ts'

const HELP = `satchel serve

Runs the API, uploads, the CDN and the worker until SIGTERM or SIGINT, which finish what is under way.
Configuration is by SATCHEL_ variables: satchel config --print shows them all.
`

export async function serve(argv: string[], out: Out): Promise<number> {
  const { values } = parseArgs({ args: argv, options: { help: { type: 'boolean', short: 'h' } } })
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const config = loadConfig()
  const told = stopSignal()
  // V8 lets its nursery grow to 32 MB, and twice as much of bodies that have passed lies about until it is swept. It grows
  // while modules load, hence the order.
  setFlagsFromString('--semi-space-growth-factor=1')
  const { startSatchel } = await import('../main.ts')
  const satchel = await startSatchel(config)
  out.stdout(banner(satchel, config.apiKey !== undefined))
  await told
  await satchel.stop()
  return 0
}

function banner({ urls, apiKey, phoneNumbers }: Satchel, isConfigured: boolean): string {
  const base = `${urls.api}/api/partner`
  return `Satchel ${VERSION} is ready.

  API base URL   ${base}
  API key        ${isConfigured ? 'as set in SATCHEL_API_KEY' : apiKey}
  Phone numbers  ${phoneNumbers.join(', ')}
  CDN            ${urls.cdn}
  Reference      ${urls.api}/docs

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
