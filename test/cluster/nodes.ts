/**
 * A small Satchel of several processes: API nodes, edges and workers with one PostgreSQL and one folder of files, and in front
 * of each kind a balancer that hands connections to whoever takes them, as a proxy would.
 */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../support/postgres.ts'
import { type Server, startServer } from '../support/satchel.ts'

export type Role = 'api' | 'edge' | 'worker'
/** `cdnPort`: that an edge listens on; what it calls itself is the balancer's address. */
export type Node = {
  readonly role: Role
  readonly name: string
  readonly cdnPort: number
  server: Server
  isUp: boolean
}

export type Cluster = {
  readonly nodes: readonly Node[]
  /** Origins of the balancers. */
  readonly api: string
  readonly cdn: string
  readonly apiKey: string
  readonly line: string
  of(role: Role): Node[]
  kill(node: Node): Promise<void>
  /** By the name of a node, when its processes were gone, in ms since 1970. */
  readonly killedAt: ReadonlyMap<string, readonly number[]>
  start(node: Node): Promise<void>
  /** A call of the API through the balancer. */
  call(path: string, init?: RequestInit): Promise<Response>
  [Symbol.asyncDispose](): Promise<void>
}

const LINE = '+12025550177'
const KEY = 'cluster-test-key'

/** `database` is new and empty. All nodes start at the same moment. */
export async function startCluster(o: {
  database: string
  roles: readonly Role[]
  env?: Record<string, string>
}): Promise<Cluster> {
  const folder = await mkdtemp(join(tmpdir(), 'satchel-cluster-'))
  const nodes: Node[] = []
  const killedAt = new Map<string, number[]>()
  const live = (role: Role) => nodes.filter((node) => node.role === role && node.isUp)
  const api = await openBalancer(() => live('api').map(({ server }) => Number(new URL(server.api).port)))
  const edge = await openBalancer(() => live('edge').map(({ cdnPort }) => cdnPort))
  const start = (role: Role, name: string, cdnPort: number) =>
    startServer({
      role,
      dataDir: join(folder, name),
      env: {
        SATCHEL_DATABASE_URL: o.database,
        SATCHEL_STORAGE_URL: `file:${join(folder, 'shared')}`,
        SATCHEL_CDN_URL: edge.origin,
        SATCHEL_CDN_PORT: String(cdnPort),
        SATCHEL_API_KEY: KEY,
        SATCHEL_PHONE_NUMBERS: LINE,
        SATCHEL_EGRESS_ALLOW: '127.0.0.1:*',
        SATCHEL_LOG_LEVEL: 'warn',
        ...o.env,
      },
    })
  await Promise.all(
    o.roles.map(async (role, index) => {
      const name = `${role}-${index}`
      const cdnPort = await freePort()
      nodes.push({ role, name, cdnPort, server: await start(role, name, cdnPort), isUp: true })
    }),
  )
  return {
    nodes,
    api: api.origin,
    cdn: edge.origin,
    apiKey: KEY,
    line: LINE,
    of: (role) => nodes.filter((node) => node.role === role),
    async kill(node) {
      node.isUp = false
      await node.server.kill()
      killedAt.set(node.name, [...(killedAt.get(node.name) ?? []), Date.now()])
    },
    killedAt,
    async start(node) {
      node.server = await start(node.role, node.name, node.cdnPort)
      node.isUp = true
    },
    call: (path, init = {}) =>
      fetch(`${api.origin}/api/partner${path}`, {
        ...init,
        headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json', ...init.headers },
      }),
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map((node) => node.server.stop()))
      api.close()
      edge.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** Passes each connection on to the next port in turn; a port that does not answer is left for the next one. */
async function openBalancer(ports: () => number[]): Promise<{ origin: string; close(): void }> {
  const sockets = new Set<Socket>()
  let turn = 0
  const server = createServer((client) => {
    sockets.add(client)
    client.on('error', () => {}).on('close', () => sockets.delete(client))
    const candidates = ports()
    const first = turn++
    const attempt = (index: number) => {
      const port = candidates[(first + index) % Math.max(1, candidates.length)]
      if (port === undefined || index === candidates.length) {
        client.destroy()
        return
      }
      const upstream = connect(port, '127.0.0.1')
      upstream.once('connect', () => {
        upstream.off('error', refused).on('error', () => client.destroy())
        client.pipe(upstream).pipe(client)
        client.on('close', () => upstream.destroy())
        upstream.on('close', () => client.destroy())
      })
      const refused = () => attempt(index + 1)
      upstream.once('error', refused)
    }
    attempt(0)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    origin: `http://127.0.0.1:${port}`,
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
