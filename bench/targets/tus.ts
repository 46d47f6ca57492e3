/** @tus/server: resumable uploads on files. A POST makes the upload, one PATCH carries it; no signature, no hash, no sync. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LARGE, SMALL } from '../bodies.ts'
import type { Request } from '../load.ts'
import { installPackages } from '../packages.ts'
import { isListening, Program } from '../process.ts'
import type { Size, Target } from '../target.ts'

const PACKAGES = { '@tus/server': '2.4.5', '@tus/file-store': '2.1.1' }
let packages = ''

export const tus: Target = {
  name: 'tus',
  kind: 'peer',
  about: `@tus/server ${PACKAGES['@tus/server']} with its file store: no check, no hash, no sync`,
  async missing() {
    const installed = await installPackages('tus', PACKAGES)
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
    const tusHeaders = { 'tus-resumable': '1.0.0' }
    const run = Date.now().toString(36)
    let names = 0
    async function make(size: Size, count: number): Promise<string[]> {
      const { length } = size === 'small' ? SMALL : LARGE
      const made = Array.from({ length: count }, () => `file-${run}-${names++}`)
      const posts = made.map(
        (name): Request => ({
          method: 'POST',
          path: '/files',
          host,
          headers: {
            ...tusHeaders,
            'content-length': '0',
            'upload-length': String(length),
            'upload-metadata': `name ${Buffer.from(name).toString('base64')}`,
          },
        }),
      )
      const played = await load.play(posts, { port, connections: 4 })
      if (played.failed > 0) throw new Error(`tus refused: ${JSON.stringify(played.statuses)}`)
      return made.map((name) => `/files/${name}`)
    }
    const patch = (size: Size, path: string): Request => ({
      method: 'PATCH',
      path,
      host,
      headers: { ...tusHeaders, 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' },
      body: size === 'small' ? SMALL : LARGE,
    })
    const known = new Map<Size, string[]>()
    async function paths(size: Size): Promise<string[]> {
      const before = known.get(size)
      if (before) return before
      const made = await make(size, size === 'small' ? 200 : 4)
      await load.play(
        made.map((path) => patch(size, path)),
        { port, connections: 2 },
      )
      known.set(size, made)
      return made
    }
    return {
      pid: program.pid,
      async uploads(size, count) {
        return { port, requests: (await make(size, count)).map((path) => patch(size, path)) }
      },
      downloads: async (size) => ({
        port,
        requests: (await paths(size)).map((path) => ({ method: 'GET', path, host })),
      }),
      stop: () => program.stop(),
    }
  },
}

/** 2.4.5 throws where nobody can catch it when a client hangs up after a GET; without the listener it would end. */
const SERVE = `
import { FileStore } from '@tus/file-store'
import { Server } from '@tus/server'
const [directory, port] = process.argv.slice(2)
process.on('uncaughtException', () => {})
const server = new Server({
  path: '/files',
  datastore: new FileStore({ directory }),
  namingFunction: (request, metadata) => metadata.name,
})
server.listen({ host: '127.0.0.1', port: Number(port) })
`
