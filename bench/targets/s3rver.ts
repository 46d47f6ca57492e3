/** s3rver: S3's protocol on files. It checks the presigned URL and computes the MD5; it syncs nothing. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { presign } from '../../src/sigv4.ts'
import { LARGE, SMALL } from '../bodies.ts'
import type { Request } from '../load.ts'
import { installPackages } from '../packages.ts'
import { isListening, Program } from '../process.ts'
import type { Size, Target } from '../target.ts'
import { rangesOf } from './nginx.ts'

const PACKAGES = { s3rver: '3.7.1' }
const KEY = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER', region: 'us-east-1' }
let packages = ''

export const s3rver: Target = {
  name: 's3rver',
  kind: 'peer',
  about: `s3rver ${PACKAGES.s3rver}: presigned PUTs, MD5, no sync`,
  async missing() {
    const installed = await installPackages('s3rver', PACKAGES)
    if ('missing' in installed) return installed.missing
    packages = installed.folder
    return undefined
  },
  async start(folder, { load, port: free }) {
    const port = free()
    mkdirSync(folder, { recursive: true })
    const script = join(packages, 'serve.mjs')
    writeFileSync(script, SERVE)
    const program = new Program(process.execPath, ['--no-deprecation', script, folder, String(port)], { cwd: packages })
    await program.waitFor(() => isListening(port))
    const host = `127.0.0.1:${port}`
    const run = Date.now().toString(36)
    let names = 0
    const signed = (method: string, path: string) =>
      presign(KEY, { method, url: `http://${host}${path}`, headers: {}, now: Date.now(), expiresSeconds: 3600 })
    const put = (size: Size) => {
      const path = `/bench/${run}-${names++}`
      const body = size === 'small' ? SMALL : LARGE
      const request: Request = { method: 'PUT', path: signed('PUT', path).slice(`http://${host}`.length), host, body }
      return { path, request }
    }
    const known = new Map<Size, string[]>()
    async function paths(size: Size): Promise<string[]> {
      const before = known.get(size)
      if (before) return before
      const puts = Array.from({ length: size === 'small' ? 200 : 4 }, () => put(size))
      const played = await load.play(
        puts.map(({ request }) => request),
        { port, connections: 2 },
      )
      if (played.failed > 0) throw new Error(`s3rver refused its files: ${JSON.stringify(played.statuses)}`)
      const made = puts.map(({ path }) => signed('GET', path).slice(`http://${host}`.length))
      known.set(size, made)
      return made
    }
    return {
      pid: program.pid,
      uploads: async (size, count) => ({ port, requests: Array.from({ length: count }, () => put(size).request) }),
      downloads: async (size) => ({
        port,
        requests: (await paths(size)).map((path) => ({ method: 'GET', path, host })),
      }),
      ranges: async () => ({ port, requests: rangesOf(await paths('large'), host) }),
      stop: () => program.stop(),
    }
  },
}

const SERVE = `
import S3rver from 's3rver'
const [directory, port] = process.argv.slice(2)
await new S3rver({ address: '127.0.0.1', port: Number(port), directory, silent: true, configureBuckets: [{ name: 'bench' }] }).run()
`
