/**
 * `npm run bench:soak`: ten minutes at 80 % of the peak of mixed work. One piece of work is a create, a PUT of 50 KB, a send and
 * a GET, and the two webhooks that follow (message.sent, message.delivered). Watched: memory, descriptors, temporary files, latency,
 * errors, and whether every webhook came; and beside them what the machine gave: processor time that one piece took, processor time
 * that other guests of the host took, and how long a synced write of 4 KB takes in the same folder meanwhile.
 * Prints a table and writes bench/results/soak.json; exits with 1 when something failed.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Pool } from 'undici'
import { readBody, SMALL, writeBodies } from './bodies.ts'
import { Load } from './load.ts'
import { cpuSeconds, openDescriptors, residentMb } from './process.ts'
import { median } from './report.ts'
import { PHONE_NUMBER, startSatchel } from './targets/satchel.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    part: { type: 'string', default: '0.8' },
    folder: { type: 'string' },
  },
})
const minutes = Number(values.minutes)
const PEAK_WORK = 2000
const PEAK_WIDTH = 16
const CHATS = 64
const WINDOW_MS = 10_000
const WEBHOOKS_PER_WORK = 2
const RECEIVER_PORT = 24_390
const say = (text: string) => process.stdout.write(`${text}\n`)

const root = mkdtempSync(join(values.folder ?? tmpdir(), 'satchel-soak-'))
process.once('exit', () => rmSync(root, { recursive: true, force: true }))
writeBodies(join(root, 'bodies'))
const photo = readBody(join(root, 'bodies'), SMALL)
const dataDir = join(root, 'data')

let webhooks = 0
const receiver = createServer((request, response) => {
  request.resume().on('end', () => {
    webhooks++
    response.writeHead(200, { 'content-length': '0' }).end()
  })
})
receiver.keepAliveTimeout = 60_000
receiver.listen(RECEIVER_PORT, '127.0.0.1')

const load = new Load(root, join(root, 'bodies'))
const satchel = await startSatchel(dataDir, { load, caPath: '', egress: `127.0.0.1:${RECEIVER_PORT}` }, {})
await satchel.call('/webhook-subscriptions', {
  target_url: `http://127.0.0.1:${RECEIVER_PORT}/hook`,
  subscribed_events: ['message.sent', 'message.delivered'],
})
const pools = new Map<string, Pool>()
const chats: string[] = []
for (let n = 0; n < CHATS; n++) {
  const message = { parts: [{ type: 'text', value: 'hello' }] }
  const opened = (await satchel.call('/chats', { from: PHONE_NUMBER, to: [`+1415557${1000 + n}`], message })) as {
    chat: { id: string }
  }
  chats.push(opened.chat.id)
}
await until(() => webhooks === CHATS * WEBHOOKS_PER_WORK)

type Window = { started: number; done: number; errors: string[]; latencies: number[] }
let window: Window = newWindow()
const kinds = new Map<string, number>()

/** One piece of work, its webhooks apart. */
async function work(number: number): Promise<void> {
  const began = performance.now()
  try {
    const created = (await api('/attachments', {
      filename: 'photo.jpg',
      content_type: 'image/jpeg',
      size_bytes: photo.length,
    })) as { attachment_id: string; upload_url: string; download_url: string; required_headers: Record<string, string> }
    await ask('PUT', created.upload_url, created.required_headers, photo)
    const message = { parts: [{ type: 'media', attachment_id: created.attachment_id }] }
    await api(`/chats/${chats[number % CHATS]}/messages`, { message })
    const { length } = await ask('GET', created.download_url, {})
    if (length !== photo.length) throw new Error(`the download has ${length} bytes`)
    window.done++
    window.latencies.push(performance.now() - began)
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    window.errors.push(text)
    kinds.set(text, (kinds.get(text) ?? 0) + 1)
  }
}

const headers = { authorization: `Bearer ${satchel.apiKey}`, 'content-type': 'application/json' }
const api = async (path: string, body: unknown): Promise<unknown> =>
  JSON.parse((await ask('POST', `${satchel.api}/api/partner/v3${path}`, headers, JSON.stringify(body))).toString())

async function ask(
  method: 'GET' | 'POST' | 'PUT',
  url: string,
  headers: Record<string, string>,
  body?: string | Buffer,
): Promise<Buffer> {
  const { origin, pathname, search } = new URL(url)
  const pool = pools.get(origin) ?? new Pool(origin, { connections: 64 })
  pools.set(origin, pool)
  const answer = await pool.request({ method, path: pathname + search, headers, body: body ?? null })
  const bytes = Buffer.from(await answer.body.arrayBuffer())
  if (answer.statusCode >= 300)
    throw new Error(`${method} answered ${answer.statusCode}: ${bytes.toString().slice(0, 200)}`)
  return bytes
}

// The peak: as much as sixteen at a time get done, and the time until the last webhook of it has come counts.
const before = webhooks
const peakBegan = performance.now()
let begun = 0
await Promise.all(
  Array.from({ length: PEAK_WIDTH }, async () => {
    while (begun < PEAK_WORK) await work(begun++)
  }),
)
await until(() => webhooks >= before + (PEAK_WORK - window.errors.length) * WEBHOOKS_PER_WORK)
const peak = PEAK_WORK / ((performance.now() - peakBegan) / 1000)
const rate = peak * Number(values.part)
say(`peak ${peak.toFixed(1)} pieces of work a second; ${minutes} minutes at ${rate.toFixed(1)}`)

const samples: Record<string, number>[] = []
const webhooksBefore = webhooks
window = newWindow()
const soakBegan = performance.now()
const soakMs = minutes * 60_000
let total = 0
let done = 0
let errors = 0
let underway = 0
say('   s  work/s   p50 ms   p99 ms   errors   MB  descriptors  temporary  webhooks owed  cpu ms  stolen %  sync ms')
const yardstick = await open(join(root, 'yardstick'), 'w')
let [cpuBefore, ticksBefore] = [cpuSeconds(satchel.pid), processorTicks()]
let syncMs: number[] = []
const syncing = setInterval(async () => {
  const began = performance.now()
  await yardstick.write(Buffer.alloc(4096, 1), 0, 4096, 0)
  await yardstick.datasync()
  syncMs.push(performance.now() - began)
}, WINDOW_MS / 20)
const sampling = setInterval(sample, WINDOW_MS)
for (let next = soakBegan; next < soakBegan + soakMs; next += 1000 / rate) {
  const wait = next - performance.now()
  if (wait > 1) await sleep(wait)
  underway++
  void work(total++).finally(() => {
    underway--
  })
}
await until(() => underway === 0)
sample()
clearInterval(sampling)
clearInterval(syncing)
await until(() => webhooks >= webhooksBefore + done * WEBHOOKS_PER_WORK, 60_000)
await sleep(1000)
const owed = done * WEBHOOKS_PER_WORK - (webhooks - webhooksBefore)

function sample(): void {
  const { done: finished, errors: failed, latencies, started } = window
  window = newWindow()
  done += finished
  errors += failed.length
  latencies.sort((a, b) => a - b)
  const at = (part: number) => latencies[Math.floor(latencies.length * part)] ?? 0
  const [cpu, ticks] = [cpuSeconds(satchel.pid), processorTicks()]
  const row = {
    seconds: Math.round((performance.now() - soakBegan) / 1000),
    rate: finished / ((performance.now() - started) / 1000),
    p50: at(0.5),
    p99: at(0.99),
    errors: failed.length,
    mb: residentMb(satchel.pid),
    descriptors: openDescriptors(satchel.pid),
    temporary: temporaryFiles(),
    owed: done * WEBHOOKS_PER_WORK - (webhooks - webhooksBefore),
    cpuMs: ((cpu - cpuBefore) * 1000) / Math.max(1, finished),
    stolenPercent: (100 * (ticks.stolen - ticksBefore.stolen)) / Math.max(1, ticks.all - ticksBefore.all),
    syncMs: median(syncMs),
  }
  cpuBefore = cpu
  ticksBefore = ticks
  syncMs = []
  samples.push(row)
  say(
    `${String(row.seconds).padStart(4)} ${row.rate.toFixed(1).padStart(7)} ${row.p50.toFixed(1).padStart(8)} ${row.p99.toFixed(1).padStart(8)} ${String(row.errors).padStart(8)} ${row.mb.toFixed(0).padStart(4)} ${String(row.descriptors).padStart(12)} ${String(row.temporary).padStart(10)} ${String(row.owed).padStart(14)} ${row.cpuMs.toFixed(1).padStart(7)} ${row.stolenPercent.toFixed(1).padStart(9)} ${row.syncMs.toFixed(1).padStart(8)}`,
  )
}

/** Of all processors together (proc_stat(5)); stolen is what the host gave to others while we could have run. */
function processorTicks(): { all: number; stolen: number } {
  const [, ...ticks] = (readFileSync('/proc/stat', 'latin1').split('\n', 1)[0] ?? '').split(/ +/)
  return { all: ticks.reduce((sum, each) => sum + Number(each), 0), stolen: Number(ticks[7] ?? 0) }
}

function temporaryFiles(): number {
  return readdirSync(join(dataDir, 'files/tmp')).length + readdirSync(join(dataDir, 'spool')).length
}

function newWindow(): Window {
  return { started: performance.now(), done: 0, errors: [], latencies: [] }
}

async function until(condition: () => boolean, limitMs = 600_000): Promise<void> {
  for (const end = Date.now() + limitMs; !condition() && Date.now() < end; ) await sleep(20)
}

const third = Math.max(1, Math.floor(samples.length / 3))
const of = (rows: Record<string, number>[], field: string) => median(rows.map((row) => row[field] ?? 0))
const [first, last] = [samples.slice(0, third), samples.slice(-third - 1, -1)]
const medians = (rows: Record<string, number>[]) =>
  Object.fromEntries(
    ['mb', 'p50', 'p99', 'descriptors', 'cpuMs', 'stolenPercent', 'syncMs'].map((field) => [field, of(rows, field)]),
  )
const result = {
  peak,
  rate,
  minutes,
  done,
  errors,
  kinds: Object.fromEntries(kinds),
  webhooksOwedAtTheEnd: owed,
  temporaryAtTheEnd: temporaryFiles(),
  descriptorsAtTheEnd: openDescriptors(satchel.pid),
  firstThird: medians(first),
  lastThird: medians(last),
  samples,
}
const results = fileURLToPath(new URL('results', import.meta.url))
mkdirSync(results, { recursive: true })
writeFileSync(join(results, 'soak.json'), `${JSON.stringify(result, undefined, 1)}\n`)
const { samples: _, ...shown } = result
say(JSON.stringify(shown, undefined, 1))
for (const pool of pools.values()) await pool.destroy()
receiver.closeAllConnections()
receiver.close()
await yardstick.close()
await satchel.stop()
process.exitCode = errors > 0 || owed > 0 || result.temporaryAtTheEnd > 0 ? 1 : 0
