/**
 * Throws damaged and hostile files at the detector and reports what it did: `npm run fuzz -- --seconds 60 --seed 1`.
 * No input may make it throw, hang, take over 200 ms or 64 MB, or read more of an accepted file than it promises. A violation is
 * printed with a seed of its own; `--seed THAT --count 1` repeats it. Nothing is written unless `--save DIR` is given.
 */

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { describe } from '../src/media/describe.ts'
import { detect } from '../src/media/detect.ts'
import { judgeUpload } from '../src/media/judge.ts'
import { goodFiles, monsters, mutate, randomFrom } from '../test/fixtures/media/hostile.ts'

/** Of this thread's processor time, which a busy machine does not stretch. */
const MAX_MS = 200
const MAX_BYTES = 64 * 1024 * 1024
const MAX_READ_BYTES = 512 * 1024
const HANG_MS = 10_000

export type Violation = { readonly seed: number; readonly what: string; readonly input: Buffer }
export type FuzzReport = {
  inputs: number
  accepted: number
  refused: number
  slowestMs: number
  slowest: string
  largestMb: number
  mostRead: number
  readonly violations: Violation[]
}

export type FuzzOptions = {
  readonly seed: number
  readonly seconds?: number
  readonly count?: number
  /** Further good files to damage. */
  readonly corpus?: readonly Buffer[]
  /** Begin with the hand-made monsters, and mix them into the damage. They take some seconds to build. */
  readonly withMonsters?: boolean
}

export async function fuzz({
  seed,
  seconds,
  count,
  corpus = [],
  withMonsters = true,
}: FuzzOptions): Promise<FuzzReport> {
  const report: FuzzReport = {
    inputs: 0,
    accepted: 0,
    refused: 0,
    slowestMs: 0,
    slowest: '',
    largestMb: 0,
    mostRead: 0,
    violations: [],
  }
  const hostile = withMonsters ? monsters() : {}
  const good = [...goodFiles(), ...corpus]
  const all = [...good, ...Object.values(hostile)]
  for (const input of good) await tryOne(input, seed, 'a good file', report)
  for (const [name, input] of Object.entries(hostile)) await tryOne(input, seed, name, report)
  const end = seconds === undefined ? Number.POSITIVE_INFINITY : performance.now() + seconds * 1000
  for (let i = 0; i < (count ?? Number.POSITIVE_INFINITY) && performance.now() < end; i++) {
    const random = randomFrom(seed + i)
    const isMonster = withMonsters && random(200) === 0
    await tryOne(mutate(random, isMonster ? all : good), seed + i, 'a damaged file', report)
  }
  return report
}

async function tryOne(input: Buffer, seed: number, name: string, report: FuzzReport): Promise<void> {
  report.inputs++
  let run = await measure(input)
  // A pause of the collector or of the machine is not the input's doing: what it did, it does again.
  for (let again = 0; again < 3 && run.problem === undefined && (run.ms > MAX_MS || run.bytes > MAX_BYTES); again++) {
    run = await measure(input)
  }
  const what =
    run.problem ??
    (run.ms > MAX_MS ? `took ${run.ms.toFixed(0)} ms` : undefined) ??
    (run.bytes > MAX_BYTES ? `took ${(run.bytes / 1e6).toFixed(0)} MB` : undefined) ??
    (run.accepted && !run.isZip && run.read > MAX_READ_BYTES ? `read ${run.read} bytes of an accepted file` : undefined)
  if (what !== undefined) report.violations.push({ seed, what: `${name} ${what}`, input })
  if (run.accepted) report.accepted++
  else report.refused++
  if (run.accepted && !run.isZip) report.mostRead = Math.max(report.mostRead, run.read)
  report.largestMb = Math.max(report.largestMb, run.bytes / 1e6)
  if (run.ms > report.slowestMs) {
    report.slowestMs = run.ms
    report.slowest = `${name}, seed ${seed}, ${input.length} bytes`
  }
}

type Run = { ms: number; bytes: number; read: number; accepted: boolean; isZip: boolean; problem?: string }

async function measure(input: Buffer): Promise<Run> {
  const run: Run = { ms: 0, bytes: 0, read: 0, accepted: false, isZip: input.subarray(0, 2).equals(Buffer.from('PK')) }
  const file = {
    size: input.length,
    read: async (offset: number, length: number) => {
      const bytes = input.subarray(offset, offset + length)
      run.read += bytes.length
      return bytes
    },
  }
  const memory = process.memoryUsage.rss()
  const startedAt = cpuMs()
  try {
    const detection = await orHang(detect(file))
    run.ms = cpuMs() - startedAt
    run.accepted = 'type' in detection
    judgeUpload(detection, { filename: 'file.txt', declared: 'text/plain' })
    const read = run.read
    if ('type' in detection) await orHang(describe(file, detection.type))
    run.read = read
  } catch (error) {
    run.problem = `threw ${String(error)}`
  }
  run.bytes = process.memoryUsage.rss() - memory
  return run
}

async function orHang<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const hang = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing after ${HANG_MS} ms`)), HANG_MS)
  })
  return Promise.race([work, hang]).finally(() => clearTimeout(timer))
}

async function readCorpus(folder: string): Promise<Buffer[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return Promise.all(
    entries.filter((entry) => entry.isFile()).map((entry) => readFile(join(entry.parentPath, entry.name))),
  )
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string' },
      count: { type: 'string' },
      seed: { type: 'string', default: '1' },
      corpus: { type: 'string' },
      save: { type: 'string' },
    },
  })
  const count = values.count === undefined ? undefined : Number(values.count)
  const report = await fuzz({
    seed: Number(values.seed),
    seconds: Number(values.seconds ?? (count === undefined ? 30 : Number.POSITIVE_INFINITY)),
    ...(count !== undefined && { count }),
    ...(values.corpus !== undefined && { corpus: await readCorpus(values.corpus) }),
  })
  const { inputs, accepted, refused, slowestMs, slowest, largestMb, mostRead, violations } = report
  console.log(`inputs     ${inputs} (${accepted} accepted, ${refused} refused)`)
  console.log(`slowest    ${slowestMs.toFixed(1)} ms (${slowest})`)
  console.log(`memory     ${largestMb.toFixed(1)} MB more at most after one call`)
  console.log(`most read  ${mostRead} bytes of an accepted file, ZIP directories apart`)
  console.log(`violations ${violations.length}`)
  for (const { seed, what } of violations) console.log(`  --seed ${seed} --count 1: ${what}`)
  if (values.save !== undefined && violations.length > 0) {
    await mkdir(values.save, { recursive: true })
    for (const { seed, input } of violations) await writeFile(join(values.save, `${seed}.bin`), input)
  }
  process.exitCode = violations.length > 0 ? 1 : 0
}

if (import.meta.main) await main()

/** What this thread has computed so far, in ms. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}
