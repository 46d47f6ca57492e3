/** HTTP by hand over a socket, bodies whose every byte is known, and looks at what a server keeps on its disk. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile, stat } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type LinqAPIV3 from '@linqapp/sdk'
import { filesBelow } from './packs.ts'

export type Reply = { status: number; headers: Record<string, string>; body: Buffer }

/** A connection that says exactly what it is told, and remembers all that it hears. */
export class Wire {
  readonly socket: Socket
  readonly closed: Promise<void>
  #heard = Buffer.alloc(0)
  #wake = () => {}

  constructor(origin: string) {
    const { hostname, port } = new URL(origin)
    this.socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true })
    this.socket.on('data', (chunk) => {
      this.#heard = Buffer.concat([this.#heard, chunk])
      this.#wake()
    })
    this.socket.on('error', () => {})
    this.socket.on('end', () => this.#wake())
    this.closed = new Promise((resolve) => {
      this.socket.on('end', resolve).on('close', () => {
        this.#wake()
        resolve()
      })
    })
  }

  /** Waits until the system took it, so that a big body does not pile up here. False: the other side has gone. */
  async write(data: string | Uint8Array): Promise<boolean> {
    if (this.socket.destroyed) return false
    return await new Promise((resolve) => this.socket.write(data, (error) => resolve(!error)))
  }

  async head(requestLine: string, headers: Record<string, string>): Promise<void> {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
    await this.write(`${requestLine} HTTP/1.1\r\n${lines.join('')}\r\n`)
  }

  /** One HTTP answer with a Content-Length, or without a body. `head`: the request was a HEAD. */
  async reply(o: { head?: boolean; limitMs?: number } = {}): Promise<Reply> {
    const limit = Date.now() + (o.limitMs ?? 20_000)
    for (;;) {
      const end = this.#heard.indexOf('\r\n\r\n')
      if (end >= 0) {
        const [first = '', ...lines] = this.#heard.subarray(0, end).toString('latin1').split('\r\n')
        const headers = Object.fromEntries(
          lines.map((line) => [
            line.slice(0, line.indexOf(':')).toLowerCase(),
            line.slice(line.indexOf(':') + 1).trim(),
          ]),
        )
        const status = Number(first.split(' ')[1])
        const length =
          o.head || status < 200 || status === 204 || status === 304 ? 0 : Number(headers['content-length'])
        const start = end + 4
        if (this.#heard.length >= start + length) {
          const body = this.#heard.subarray(start, start + length)
          this.#heard = this.#heard.subarray(start + length)
          return { status, headers, body }
        }
      }
      assert.ok(!this.socket.readableEnded && !this.socket.destroyed, `closed after: ${this.#heard.toString('latin1')}`)
      assert.ok(Date.now() < limit, `no whole answer in time: ${this.#heard.toString('latin1')}`)
      await Promise.race([new Promise<void>((resolve) => (this.#wake = resolve)), sleep(500)])
    }
  }

  /** All that was heard and not taken by reply(). */
  get heard(): string {
    return this.#heard.toString('latin1')
  }

  [Symbol.dispose](): void {
    this.socket.destroy()
  }
}

export async function dial(origin: string): Promise<Wire> {
  const wire = new Wire(origin)
  await once(wire.socket, 'connect')
  return wire
}

/** Plain text of exactly `size` bytes, different for each `seed`, without any period that a shifted copy could hide in. */
export function textOf(size: number, seed = 'a'): Buffer {
  const lines: string[] = []
  for (let line = 0, length = 0; length < size; line++, length += 65) {
    lines.push(`${createHash('sha256').update(`${seed} ${line}`).digest('hex')}\n`)
  }
  return Buffer.from(lines.join('').slice(0, size), 'latin1')
}

export const md5 = (bytes: Uint8Array) => createHash('md5').update(bytes).digest('hex')
export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

export type Created = LinqAPIV3.AttachmentCreateResponse

/** A pending attachment for a plain text of this size. */
export function createText(client: LinqAPIV3, sizeBytes: number, filename = 'note.txt'): Promise<Created> {
  return client.attachments.create({ filename, content_type: 'text/plain', size_bytes: sizeBytes })
}

export function put(
  created: Created,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(created.upload_url, { method: 'PUT', headers: { ...created.required_headers, ...headers }, body })
}

/** Creates, uploads and returns a complete plain text. */
export async function uploadText(client: LinqAPIV3, bytes: Buffer, filename?: string): Promise<Created> {
  const created = await createText(client, bytes.length, filename)
  const response = await put(created, new Uint8Array(bytes))
  assert.equal(response.status, 200, await response.text())
  return created
}

export async function download(url: string): Promise<Buffer> {
  const response = await fetch(url)
  assert.equal(response.status, 200)
  return Buffer.from(await response.arrayBuffer())
}

/** Paths of the files below a folder of the data folder, e.g. `files/tmp`, and of the objects that lie many to a file. */
export const filesIn = (dataDir: string, folder: string): Promise<string[]> => filesBelow(join(dataDir, folder))

/** How many descriptors a process holds, by what they point to (Linux). */
export async function descriptorsOf(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length
}

/** Resident memory of a process in MB: now, and the most there ever was (Linux). */
export async function memoryOf(pid: number): Promise<{ rss: number; peak: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const mb = (name: string) => Math.round(Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024)
  return { rss: mb('VmRSS'), peak: mb('VmHWM') }
}

export async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777
}

/** Asks until it is so; fails with `what` after `limitMs`. */
export async function until(what: string, isSo: () => Promise<boolean> | boolean, limitMs = 60_000): Promise<void> {
  for (const limit = Date.now() + limitMs; !(await isSo()); await sleep(25)) {
    assert.ok(Date.now() < limit, `not within ${limitMs} ms: ${what}`)
  }
}

/** Ports that are free now, for a test that starts a server twice and keeps its URLs. */
export async function fixedPorts(): Promise<{ SATCHEL_PORT: string; SATCHEL_CDN_PORT: string }> {
  const probes = [createServer(), createServer()]
  const ports: string[] = []
  for (const probe of probes) {
    await once(probe.listen(0, '127.0.0.1'), 'listening')
    const address = probe.address()
    if (address && typeof address === 'object') ports.push(String(address.port))
  }
  for (const probe of probes) await once(probe.close(), 'close')
  const [SATCHEL_PORT = '', SATCHEL_CDN_PORT = ''] = ports
  return { SATCHEL_PORT, SATCHEL_CDN_PORT }
}
