/** `satchel webhooks ACTION`: what helps those who receive webhooks. Each action reads its own options. */
import { readFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { systemClock } from '../clock.ts'
import { loadConfig } from '../config.ts'
import { Failure } from '../failure.ts'
import { isUuid } from '../ids.ts'
import { openDatabase } from '../open.ts'
import { rotateSecret } from '../webhooks/subscribe.ts'
import { diagnose, type Verdict } from '../webhooks/verify.ts'

const HELP = `satchel webhooks verify --secret SECRET --headers FILE --body FILE [--now SECONDS]
satchel webhooks rotate SUBSCRIPTION_ID [--overlap HOURS]

verify says whether the signatures of a delivery fit and, if not, names the mistake: a key that was decoded or was not,
a body that was parsed before it was verified, a clock that is off, a mangled secret and others.

  --secret SECRET  as it was shown when the subscription was made: whsec_...
  --headers FILE   "Name: value" lines, as curl -i prints them, or a JSON object
  --body FILE      the exact bytes of the request's body
  --now SECONDS    when it was received, in Unix seconds; without it, now

Either FILE may be - for standard input. To find the mistake in a program of your own, write the signature that it
computes into the headers file. Exit code: 0 the standard signature fits, 1 it does not, 2 the command was not understood.

rotate gives a subscription a new secret and prints it. For the overlap, 24 hours unless said otherwise, both secrets sign.
Works while the server runs.
`

export type Io = { stdin: AsyncIterable<Buffer | string>; now: () => number }
type Action = (argv: string[], out: Out, io: Io) => Promise<number>

const ACTIONS: Record<string, Action> = { verify, rotate }

export async function webhooks(argv: string[], out: Out, io?: Io): Promise<number> {
  const [name = '', ...rest] = argv
  if (name === '--help' || name === '-h') {
    out.stdout(HELP)
    return 0
  }
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
  if (action) return await action(rest, out, io ?? { stdin: process.stdin, now: Date.now })
  out.stderr(HELP)
  return 2
}

async function verify(argv: string[], out: Out, io: Io): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      secret: { type: 'string' },
      headers: { type: 'string' },
      body: { type: 'string' },
      now: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const { secret, headers: headersPath, body: bodyPath, now } = values
  const wrong = (why: string) => {
    out.stderr(`satchel: ${why}; see satchel webhooks --help\n`)
    return 2
  }
  if (!secret || !headersPath || !bodyPath) return wrong('--secret, --headers and --body are needed')
  if (headersPath === '-' && bodyPath === '-') return wrong('only one of --headers and --body can be standard input')
  if (now !== undefined && !/^\d{1,12}$/.test(now)) return wrong(`--now "${now}" is not a time in Unix seconds`)
  let headersText: Buffer
  let body: Buffer
  try {
    headersText = await read(headersPath, io.stdin)
    body = await read(bodyPath, io.stdin)
  } catch (error) {
    return wrong((error as Error).message)
  }
  const headers = parseHeaders(headersText.toString('utf8'))
  if (!headers) return wrong(`${headersPath} holds neither "Name: value" lines nor a JSON object`)

  const { standard, legacy } = diagnose({ secret, headers, body, now: now ? Number(now) * 1000 : io.now() })
  out.stdout(describe('standard signature (webhook-signature)', standard))
  out.stdout(describe('legacy signature (X-Webhook-Signature)', legacy))
  return standard.ok ? 0 : 1
}

async function rotate(argv: string[], out: Out): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: { overlap: { type: 'string', default: '24' }, help: { type: 'boolean', short: 'h' } },
  })
  const [id = ''] = positionals
  const hours = Number(values.overlap)
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  if (!isUuid(id) || !/^\d{1,4}$/.test(values.overlap)) {
    out.stderr('satchel: a subscription id and, with --overlap, whole hours are needed; see satchel webhooks --help\n')
    return 2
  }
  await using opened = await openDatabase(loadConfig().databaseUrl)
  try {
    const overlapMs = hours * 3_600_000
    const secret = await rotateSecret({ db: opened.db, clock: systemClock }, { id: id.toLowerCase(), overlapMs })
    out.stdout(`${secret}\n`)
    return 0
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    out.stderr(`satchel: ${error.message}\n`)
    return 1
  }
}

function read(path: string, stdin: Io['stdin']): Promise<Buffer> {
  return path === '-' ? buffer(stdin) : readFile(path)
}

/** Later lines of one name are joined as HTTP does. The request or status line, and curl's marks, are passed over. */
function parseHeaders(text: string): Record<string, string> | undefined {
  const trimmed = text.replace(/^\uFEFF/, '').trim()
  const headers: Record<string, string> = {}
  if (trimmed.startsWith('{')) {
    try {
      for (const [name, value] of Object.entries(JSON.parse(trimmed))) headers[name] = [value].flat().join(', ')
    } catch {
      return undefined
    }
    return headers
  }
  for (const line of trimmed.split(/\r?\n/)) {
    const [, name, value] = /^(?:[<>] ?)?([!#$%&'*+.^_`|~\w-]+):[ \t]*(.*)$/.exec(line) ?? []
    if (name === undefined || value === undefined) continue
    const known = headers[name]
    headers[name] = known === undefined ? value : `${known}, ${value}`
  }
  return Object.keys(headers).length > 0 ? headers : undefined
}

function describe(label: string, verdict: Verdict): string {
  if (verdict.ok) return `${label}: fits\n`
  const titles = verdict.faults.map(({ mistake }) => mistake.replaceAll('_', ' '))
  return `${label}: refused (${titles.join(', ')})\n${verdict.faults.map(({ advice }) => `  ${advice}\n`).join('')}`
}
