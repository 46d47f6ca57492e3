/** The yardstick for API calls: bare-server.ts in a process of its own. */
import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Request } from '../load.ts'
import { isListening, Program } from '../process.ts'
import type { Target } from '../target.ts'

const SERVER = fileURLToPath(new URL('bare-server.ts', import.meta.url))

export const bare: Target = {
  name: 'bare node',
  kind: 'limit',
  about: 'node:http and node:sqlite and nothing else: one synced transaction a request',
  async start(folder, { port: free, caPath }) {
    const port = free()
    mkdirSync(folder, { recursive: true })
    const program = new Program(process.execPath, [SERVER, folder, String(port)], {
      env: { NODE_EXTRA_CA_CERTS: caPath },
    })
    await program.waitFor(() => isListening(port))
    const host = `127.0.0.1:${port}`
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify({ filename: 'photo.jpg', content_type: 'image/jpeg', size_bytes: 50_000 })
    const posts = (path: string, count: number) => ({
      port,
      requests: Array.from({ length: count }, (): Request => ({ method: 'POST', path, host, headers, body })),
    })
    return {
      pid: program.pid,
      creates: async (count) => posts('/one', count),
      sends: async (count) => posts('/three', count),
      retrieves: async () => ({ port, requests: [{ method: 'GET', path: '/constant', host }] }),
      fetches: async (count, url) => ({
        port,
        requests: Array.from(
          { length: count },
          (_, index): Request => ({ method: 'GET', path: `/fetch?${url}?${index}`, host }),
        ),
      }),
      stop: () => program.stop(),
    }
  },
}
