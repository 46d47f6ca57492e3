/** `satchel trigger EVENT`: makes something happen on the pretend phone network, as if a person had done it. */
import { openAsBlob } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { findTypeByExtension } from '../media/types.ts'
import { E164 } from '../phone-numbers/e164.ts'
import { API_HELP, API_OPTIONS, type Api, CallFailed, type ClientEnvironment, call, findApi } from './client.ts'

const HELP = `satchel trigger message.received [--text TEXT] [--file FILE]... [--from +E164] [--to +E164] [--service SERVICE]
satchel trigger message.read --message ID

message.received: someone writes to one of your lines; prints the ids of chat and message.
message.read: the person you wrote to reads your message.

  --file FILE      a picture or another file to come with it; may be repeated
  --from +E164     who writes; without it, +14155550123
  --to +E164       one of your lines; without it, the first
  --service NAME   iMessage, RCS or SMS
${API_HELP}
`

const SOMEBODY = '+14155550123'
const SERVICES = ['iMessage', 'RCS', 'SMS']

type Received = { text?: string; file?: string[]; from?: string; to?: string; service?: string }

export async function trigger(argv: string[], out: Out, o: { env?: ClientEnvironment } = {}): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      text: { type: 'string' },
      file: { type: 'string', multiple: true },
      from: { type: 'string' },
      to: { type: 'string' },
      service: { type: 'string' },
      message: { type: 'string' },
      ...API_OPTIONS,
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const wrong = (why: string) => {
    out.stderr(`satchel: ${why}; see satchel trigger --help\n`)
    return 2
  }
  const [event, extra] = positionals
  if (extra !== undefined) return wrong(`"${extra}" is one word too many; put quotes around what holds blanks`)
  const api = findApi(values, o.env)
  try {
    if (event === 'message.read') {
      if (!values.message) return wrong('--message needs the id of a message')
      return typeof api === 'string' ? wrong(api) : await read(api, values.message, out)
    }
    if (event !== 'message.received') return wrong('name the event: message.received or message.read')
    const fault = faultOf(values)
    if (fault !== undefined) return wrong(fault)
    return typeof api === 'string' ? wrong(api) : await receive(api, values, out)
  } catch (error) {
    if (!(error instanceof CallFailed)) throw error
    out.stderr(`satchel: ${error.message}\n`)
    return 1
  }
}

function faultOf({ text, file = [], from, to, service }: Received): string | undefined {
  if (text === undefined && file.length === 0) return '--text or --file is needed'
  const number = [from, to].find((number) => number !== undefined && !E164.test(number))
  if (number !== undefined) return `"${number}" is not in E.164 format, as +12025550100 is`
  if (service !== undefined && !SERVICES.includes(service)) return `--service must be one of ${SERVICES.join(', ')}`
  return undefined
}

/** `POST /sandbox/messages`, multipart: from, to, text, service, and behind them any number of files called media. */
async function receive(api: Api, { text, file = [], from, to, service }: Received, out: Out): Promise<number> {
  const files: [name: string, content: Blob][] = []
  for (const path of file) {
    const content = await openFile(path)
    if (!content) {
      out.stderr(`satchel: ${path} is not a file that can be read\n`)
      return 2
    }
    files.push([basename(path), content])
  }
  const form = new FormData()
  form.append('from', from ?? SOMEBODY)
  form.append('to', to ?? (await firstLine(api)))
  if (text !== undefined) form.append('text', text)
  if (service !== undefined) form.append('service', service)
  for (const [name, content] of files) form.append('media', content, name)
  const response = await call(api, '/sandbox/messages', { method: 'POST', body: form })
  const made = (await response.json()) as { chat_id: string; message_id: string }
  out.stdout(`chat     ${made.chat_id}\nmessage  ${made.message_id}\n`)
  return 0
}

/** Read while it is sent. */
async function openFile(path: string): Promise<Blob | undefined> {
  const type = findTypeByExtension(path)?.contentType ?? 'application/octet-stream'
  try {
    return (await stat(path)).isFile() ? await openAsBlob(path, { type }) : undefined
  } catch {
    return undefined
  }
}

async function firstLine(api: Api): Promise<string> {
  const response = await call(api, '/api/partner/v3/phone_numbers')
  const { phone_numbers: lines } = (await response.json()) as { phone_numbers: { phone_number: string }[] }
  const [first] = lines
  if (!first) throw new CallFailed(0, 'this API key has no phone numbers; name one with --to')
  return first.phone_number
}

async function read(api: Api, messageId: string, out: Out): Promise<number> {
  const response = await call(api, `/sandbox/messages/${encodeURIComponent(messageId)}/read`, { method: 'POST' })
  await response.body?.cancel()
  out.stdout(`message  ${messageId} is read\n`)
  return 0
}
