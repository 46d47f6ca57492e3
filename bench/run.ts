/**
 * `npm run bench`: every step, every target, several rounds, alternating; medians as ratios against the goals. Writes a table
 * to the terminal, and JSON and a plot to bench/results/. Exits with 1 when a request failed, never because of a figure.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { writeBodies } from './bodies.ts'
import { GROWN_ROWS, grow } from './grow.ts'
import { Load, type Played } from './load.ts'
import { prepareOrigin } from './origin.ts'
import { cpuSeconds, residentMb, watchMemory } from './process.ts'
import { judge, type Measured, type Results, toMarkdown } from './report.ts'
import { measureSpecial } from './special.ts'
import { STEPS, type Step } from './steps.ts'
import { toSvg } from './svg.ts'
import type { Running, Target } from './target.ts'
import { bare } from './targets/bare.ts'
import { nginx } from './targets/nginx.ts'
import { prosody } from './targets/prosody.ts'
import { s3rver } from './targets/s3rver.ts'
import { satchel, satchelPostgres } from './targets/satchel.ts'
import { supabase } from './targets/supabase.ts'
import { tus } from './targets/tus.ts'

const HELP = `npm run bench -- [--quick] [--only STEP[,STEP]] [--targets NAME[,NAME]] [--rounds N] [--rows N] [--folder PATH]

--quick    fewer requests and two rounds: for a look, not for a claim
--only     ${STEPS.map(({ id }) => id).join(', ')}
--targets  satchel, satchel-postgres, satchel-1m, nginx, "bare node", prosody, s3rver, tus, supabase
--rows     rows of satchel-1m, default ${GROWN_ROWS}
--folder   where data folders go, default the system's temporary folder; some 20 GB are needed, on a real disk
`
const RESULTS = fileURLToPath(new URL('results', import.meta.url))
const LARGE_FILE = 50_000_000
const SETTLE_MS = 500

const satchelGrown: Target = {
  ...satchel,
  name: 'satchel-1m',
  about: 'the same with a million attachments and messages',
}
const TARGETS = [satchel, satchelPostgres, satchelGrown, nginx, bare, prosody, s3rver, tus, supabase]

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    targets: { type: 'string' },
    rounds: { type: 'string' },
    rows: { type: 'string' },
    folder: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}
const rounds = Number(values.rounds ?? (values.quick ? 2 : 3))
const rows = Number(values.rows ?? GROWN_ROWS)
const steps = STEPS.filter(({ id }) => !values.only || values.only.split(',').includes(id))
const say = (text: string) => process.stderr.write(`${text}\n`)

let nextPort = 24_100
const freePort = () => nextPort++
if (values.folder) mkdirSync(values.folder, { recursive: true })
const root = mkdtempSync(join(values.folder ?? tmpdir(), 'satchel-bench-'))
process.once('SIGINT', () => process.exit(130))
process.once('exit', () => rmSync(root, { recursive: true, force: true }))

const bodies = join(root, 'bodies')
writeBodies(bodies)
const load = new Load(root, bodies)
const origin = await prepareOrigin(join(root, 'origin'), freePort(), bodies)
const receiverPort = freePort()
const tools = {
  load,
  caPath: origin.caPath,
  port: freePort,
  egress: `localhost:${origin.port},127.0.0.1:${receiverPort}`,
  receiverPort,
}

const targets: Target[] = []
const leftOut: Results['leftOut'] = []
for (const target of TARGETS) {
  if (values.targets && !values.targets.split(',').includes(target.name)) continue
  const why = await target.missing?.()
  if (why === undefined) targets.push(target)
  else {
    leftOut.push({ name: target.name, why })
    say(`\n!!! ${target.name} IS LEFT OUT: ${why}\n`)
  }
}
if (targets.includes(satchelGrown)) await fillGrown()

const began = Date.now()
const measured: Measured[] = []
try {
  for (const step of steps) await measureStep(step)
} finally {
  for (const target of targets) await target.release?.()
}

const results: Results = {
  at: new Date(began).toISOString(),
  minutes: Math.round((Date.now() - began) / 6000) / 10,
  machine: `${cpus().length} × ${cpus()[0]?.model.trim() ?? '?'}, Node ${process.versions.node}`,
  quick: values.quick,
  rounds,
  targets: targets.map(({ name, about }) => ({ name, about })),
  leftOut,
  measured,
  verdicts: judge(steps, targets, measured),
}
mkdirSync(RESULTS, { recursive: true })
const name = values.only || values.targets ? 'latest-part' : 'latest'
writeFileSync(join(RESULTS, `${name}.json`), `${JSON.stringify(results, undefined, 1)}\n`)
writeFileSync(join(RESULTS, `${name}.svg`), toSvg(results))
process.stdout.write(toMarkdown(results))
for (const { name, why } of leftOut) say(`!!! ${name} was left out: ${why}`)
const broken = measured.filter(({ failed }) => failed > 0)
for (const { step, target, failed } of broken) say(`!!! ${step}: ${failed} requests to ${target} failed`)
process.exitCode = broken.some(({ target }) => target.startsWith('satchel')) ? 1 : 0

async function fillGrown(): Promise<void> {
  say(`filling ${rows} rows`)
  const folder = join(root, satchelGrown.name)
  const running = await satchelGrown.start(folder, tools)
  await running.stop()
  grow(folder, rows)
}

/** All its targets run side by side and rest while another is measured; the order turns round from one round to the next. */
async function measureStep(step: Step): Promise<void> {
  const started = new Map<Target, Running>()
  const out = new Set<Target>()
  const source = step.id === 'direct-url' ? await origin.start() : undefined
  const count = step.count[values.quick ? 1 : 0]
  try {
    for (let round = 0; round < rounds; round++) {
      const order = targets.filter((target) => !out.has(target) && !step.without?.includes(target.name))
      if (round % 2 === 1) order.reverse()
      for (const target of order) {
        const folder = join(root, target.name)
        try {
          const figures = step.special
            ? await measureAlone(step, target, folder, count)
            : await measurePlan(step, target, folder, count, started)
          if (!figures) {
            out.add(target)
            continue
          }
          measured.push({ step: step.id, target: target.name, round, ...figures })
          say(line(step, target.name, round, figures))
        } catch (error) {
          out.add(target)
          say(`!!! ${step.id}: ${target.name} could not be measured: ${error instanceof Error ? error.message : error}`)
        }
      }
    }
  } finally {
    for (const running of started.values()) await running.stop()
    await source?.stop()
  }
}

type Figures = Omit<Measured, 'step' | 'target' | 'round'>

async function measureAlone(step: Step, target: Target, folder: string, count: number): Promise<Figures | undefined> {
  const value = await measureSpecial(step, target.name, folder, count, tools)
  return value === undefined ? undefined : { value, failed: 0 }
}

async function measurePlan(
  step: Step,
  target: Target,
  folder: string,
  count: number,
  started: Map<Target, Running>,
): Promise<Figures | undefined> {
  const running = started.get(target) ?? (await target.start(folder, tools))
  started.set(target, running)
  const plan = await step.plan?.(running, count, origin.fileUrl)
  if (!plan) return undefined
  // What the others and the preparations left to be written out must not be paid for here.
  execFileSync('sync')
  await sleep(SETTLE_MS)
  const at = Date.now()
  const [cpu, before, stopWatching] = [cpuSeconds(running.pid), residentMb(running.pid), watchMemory(running.pid)]
  const played = await load.play(plan.requests, { port: plan.port, connections: step.connections, total: count })
  const figures = {
    value: rateOf(step, played),
    failed: played.failed,
    p50: played.p50,
    p99: played.p99,
    cpuSeconds: cpuSeconds(running.pid) - cpu,
    loadCpuSeconds: played.cpu,
    seconds: played.seconds,
    growthMb: stopWatching() - before,
  }
  execFileSync('sync')
  if (step.id.startsWith('put-100m')) removeLarge(folder, at)
  return figures
}

function rateOf(step: Step, played: Played): number {
  if (step.id === 'direct-url') return (played.requests * 10) / played.seconds
  if (step.unit === 'MB/s') return Math.max(played.bytesIn, played.bytesOut) / 1e6 / played.seconds
  return played.requests / played.seconds
}

/** What a step with large bodies has stored. Small files stay to the end: ext4 is slow to make files after many were removed. */
function removeLarge(folder: string, since: number): void {
  if (!existsSync(folder)) return
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name)
    if (!entry.isFile() || entry.name.includes('sqlite')) continue
    const { size, mtimeMs } = statSync(path)
    if (size > LARGE_FILE && mtimeMs >= since) rmSync(path)
  }
}

function line(step: Step, target: string, round: number, figures: Figures): string {
  const { value, failed, p50, p99, cpuSeconds: cpu, seconds, growthMb } = figures
  const busy = cpu !== undefined && seconds ? `  ${Math.round((100 * cpu) / seconds)} % CPU` : ''
  const times = p50 === undefined ? '' : `  p50 ${p50.toFixed(1)} ms  p99 ${p99?.toFixed(1)} ms`
  const memory = growthMb === undefined ? '' : `  +${Math.round(growthMb)} MB`
  const bad = failed > 0 ? `  ${failed} FAILED` : ''
  return `${step.id.padEnd(13)} ${round + 1} ${target.padEnd(16)} ${value.toFixed(0).padStart(7)} ${step.unit}${times}${busy}${memory}${bad}`
}
