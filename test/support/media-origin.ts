/** An HTTPS host on loopback that serves what a test puts there; requests can be made to wait for each other. */
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server as HttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeCertificates } from './certificates.ts'

export type Served = {
  status?: number
  headers?: Record<string, string>
  body?: Uint8Array | string
  /** Answers only when so many requests for such paths are there at once. */
  together?: number
}

export type MediaOrigin = {
  /** Puts something at a path, with or without a query. */
  serve(path: string, served: Served): string
  /** The paths asked for so far. */
  readonly asked: string[]
  /** Settings for a server that may call this host. */
  readonly env: Record<string, string>
  url(path: string): string
  [Symbol.asyncDispose](): Promise<void>
}

export async function openMediaOrigin(): Promise<MediaOrigin> {
  const { ca, key, cert } = await makeCertificates()
  const folder = await mkdtemp(join(tmpdir(), 'satchel-origin-'))
  const caPath = join(folder, 'ca.pem')
  await writeFile(caPath, ca)
  const places = new Map<string, Served>()
  const asked: string[] = []
  let waiting: (() => void)[] = []
  const server: HttpsServer = createServer({ key, cert }, (request, response) => {
    const { url: path = '' } = request
    asked.push(path)
    const served = places.get(path) ?? { status: 404, body: 'secret explanation of the origin' }
    const answer = () => response.writeHead(served.status ?? 200, served.headers).end(served.body)
    if (served.together === undefined) return void answer()
    waiting.push(answer)
    if (waiting.length < served.together) return
    for (const go of waiting) go()
    waiting = []
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const url = (path: string) => `https://localhost:${port}${path}`
  return {
    asked,
    url,
    env: { NODE_EXTRA_CA_CERTS: caPath, SATCHEL_EGRESS_ALLOW: `localhost:${port}` },
    serve(path, served) {
      places.set(path, served)
      return url(path)
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
      await rm(folder, { recursive: true, force: true })
    },
  }
}
