/**
 * Drives load.c: compiles it once, writes the requests it is to play, and reads what it measured. It is not in Node because
 * Node would be the bottleneck, and not wrk because that can neither play each presigned URL once nor send 100 MB for free.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** `body` is a slice of the body file. */
export type Request = {
  method: string
  path: string
  host: string
  headers?: Record<string, string>
  body?: { offset: number; length: number } | string
}

/** Latencies in ms. */
export type Played = {
  requests: number
  failed: number
  seconds: number
  bytesIn: number
  bytesOut: number
  cpu: number
  p50: number
  p90: number
  p99: number
  max: number
  statuses: Record<string, number>
}

export type Answered = { request: number; status: number; body: string }

export class Load {
  readonly #folder: string
  readonly #program: string
  readonly #bodies: string
  #files = 0

  /** `bodies`: the file that request bodies are slices of. */
  constructor(folder: string, bodies: string) {
    this.#folder = folder
    this.#program = join(folder, 'load')
    this.#bodies = bodies
    const source = fileURLToPath(new URL('load.c', import.meta.url))
    execFileSync('cc', ['-O2', '-o', this.#program, source], { stdio: 'inherit' })
  }

  /** Plays each request in turn over `connections` kept alive, again from the first when `total` is more. */
  async play(requests: Request[], o: { port: number; connections: number; total?: number }): Promise<Played> {
    return (await this.#play(requests, o, undefined)).played
  }

  /** The same, with the answers. */
  async ask(requests: Request[], o: { port: number; connections: number }): Promise<Answered[]> {
    const path = join(this.#folder, `answers-${this.#files}`)
    const { played } = await this.#play(requests, o, path)
    if (played.failed > 0) throw new Error(`preparing failed: ${JSON.stringify(played.statuses)}`)
    return parseAnswers(readFileSync(path)).sort((a, b) => a.request - b.request)
  }

  async #play(requests: Request[], o: { port: number; connections: number; total?: number }, save: string | undefined) {
    const plan = join(this.#folder, `plan-${this.#files++}`)
    const { plan: bytes, bodies } = encodePlan(requests, this.#bodies, `${plan}-bodies`)
    writeFileSync(plan, bytes)
    const total = String(o.total ?? requests.length)
    const args = ['send', '127.0.0.1', String(o.port), String(o.connections), plan, bodies, total]
    const { stdout } = await run(this.#program, save ? [...args, save] : args, { maxBuffer: 1 << 20 })
    return { played: JSON.parse(stdout) as Played }
  }

  /** A receiver of webhooks; `counted` resolves when `requests` POSTs have come, with the seconds from the first to the last. */
  async receive(
    port: number,
    requests: number,
  ): Promise<{ counted: Promise<{ requests: number; seconds: number }>; child: ChildProcess }> {
    const child = spawn(this.#program, ['receive', String(port), String(requests)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout?.on('data', (chunk) => {
      text += chunk
    })
    const counted = once(child, 'close').then(() => JSON.parse(text.trim().split('\n').at(-1) ?? ''))
    while (!text.includes('ready')) await new Promise((resolve) => setTimeout(resolve, 10))
    return { counted, child }
  }
}

/** Bodies given as text get a file of their own; a plan has either those or slices of the common file. */
function encodePlan(requests: Request[], common: string, own: string): { plan: Buffer; bodies: string } {
  const texts: string[] = []
  let textBytes = 0
  const parts: Buffer[] = []
  for (const { method, path, host, headers = {}, body } of requests) {
    const slice = typeof body === 'string' ? { offset: textBytes, length: Buffer.byteLength(body) } : body
    if (typeof body === 'string') {
      texts.push(body)
      textBytes += slice?.length ?? 0
    }
    const length = slice ? { 'content-length': String(slice.length) } : {}
    const lines = Object.entries({ ...headers, ...length }).map(([name, value]) => `${name}: ${value}\r\n`)
    const head = Buffer.from(`${method} ${path} HTTP/1.1\r\nhost: ${host}\r\n${lines.join('')}\r\n`)
    const record = Buffer.alloc(20)
    record.writeUInt32LE(head.length, 0)
    record.writeBigUInt64LE(BigInt(slice?.offset ?? 0), 4)
    record.writeBigUInt64LE(BigInt(slice?.length ?? 0), 12)
    parts.push(record, head)
  }
  if (texts.length > 0) writeFileSync(own, texts.join(''))
  return { plan: Buffer.concat(parts), bodies: texts.length > 0 ? own : common }
}

function parseAnswers(bytes: Buffer): Answered[] {
  const answers: Answered[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8)
    const body = bytes.toString('latin1', at + 12, at + 12 + length)
    answers.push({ request: bytes.readUInt32LE(at), status: bytes.readUInt32LE(at + 4), body })
    at += 12 + length
  }
  return answers
}
