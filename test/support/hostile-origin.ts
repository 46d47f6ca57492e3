/**
 * A host on loopback that misbehaves on request: the path says how, the query says how much. For whatever downloads or posts.
 * It records every request and counts its open sockets, so that a test can ask what was sent and what was left open.
 */
import { once } from 'node:events'
import { createServer as createPlainServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { type Certificates, makeCertificates } from './certificates.ts'

export type RecordedRequest = { method: string; path: string; headers: IncomingHttpHeaders; body: Buffer }

export type HostileOrigin = {
  /** PEM of the authority to trust; empty when plain. */
  readonly ca: string
  readonly port: number
  /** `https://localhost:<port><path>`, or with another host name in place of localhost. */
  url(path: string, host?: string): string
  readonly requests: RecordedRequest[]
  /** TCP connections that are open now. */
  readonly sockets: ReadonlySet<Socket>
  [Symbol.asyncDispose](): Promise<void>
}

/** Listens on a free port of 127.0.0.1. `plain`: http without TLS. `certificates`: others than for localhost and `names`. */
export async function openHostileOrigin(
  o: { plain?: boolean; names?: string[]; certificates?: Certificates } = {},
): Promise<HostileOrigin> {
  const certificates = o.plain ? undefined : (o.certificates ?? (await makeCertificates(o.names)))
  const server = certificates ? createTlsServer(certificates) : createPlainServer()
  const requests: RecordedRequest[] = []
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
  })
  server.on('request', async (request, response) => {
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk)
    } catch {
      return
    }
    const { method = '', url: path = '', headers } = request
    requests.push({ method, path, headers, body: Buffer.concat(chunks) })
    const url = new URL(path, 'http://localhost')
    const [, name = '', ...rest] = url.pathname.split('/')
    const behave = BEHAVIOURS[name] ?? ((response) => void response.writeHead(404).end('no such behaviour'))
    behave(response, url.searchParams, rest.join('/'))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    ca: certificates?.ca ?? '',
    port,
    url: (path, host = 'localhost') => `${o.plain ? 'http' : 'https'}://${host}:${port}${path}`,
    requests,
    sockets,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      for (const socket of sockets) socket.destroy()
      await once(server, 'close')
    },
  }
}

type Behaviour = (response: ServerResponse, query: URLSearchParams, rest: string) => void

const number = (query: URLSearchParams, name: string, otherwise: number) => Number(query.get(name) ?? otherwise)

const BEHAVIOURS: Record<string, Behaviour> = {
  /** /file?bytes=&type=&chunked=1 — an honest file of zeros. */
  file(response, query) {
    const bytes = number(query, 'bytes', 1000)
    const length = query.has('chunked') ? {} : { 'content-length': bytes }
    response.writeHead(200, { 'content-type': query.get('type') ?? 'application/octet-stream', ...length })
    pour(response, bytes)
  },

  /** /status/404?retry-after=&location= — any status with a short body. */
  status(response, query, rest) {
    response.writeHead(Number(rest), Object.fromEntries(query)).end('explanation that nobody may see')
  },

  /** /redirect/3 — that many hops, then /file. */
  redirect(response, query, rest) {
    const left = Number(rest)
    const location = left > 1 ? `/redirect/${left - 1}` : '/file?bytes=1000'
    response.writeHead(number(query, 'status', 302), { location }).end('moved')
  },

  /** /to?location=&status= — one hop to anywhere. */
  to(response, query) {
    const location = query.get('location')
    response.writeHead(number(query, 'status', 302), location === null ? {} : { location }).end()
  },

  /** /loop — to itself for ever. */
  loop(response) {
    response.writeHead(302, { location: '/loop' }).end()
  },

  /** /redirect-endless — a hop whose body never ends. */
  'redirect-endless'(response) {
    response.writeHead(302, { location: '/file?bytes=1000' })
    pour(response, Number.POSITIVE_INFINITY)
  },

  /** /stall — never answers. */
  stall() {},

  /** /stall-body — headers and one byte, then nothing. */
  'stall-body'(response) {
    response.writeHead(200, { 'content-length': 1000 }).write('x')
  },

  /** /drip?every=20 — one byte each so many milliseconds, for ever. */
  drip(response, query) {
    response.writeHead(200, { 'content-type': 'text/plain' })
    const timer = setInterval(() => response.write('x'), number(query, 'every', 20))
    response.on('close', () => clearInterval(timer))
  },

  /** /drip-headers — a header byte now and then, for ever. */
  'drip-headers'(response) {
    const { socket } = response
    socket?.write('HTTP/1.1 200 OK\r\nX-Slow: ')
    const timer = setInterval(() => socket?.write('x'), 20)
    socket?.on('close', () => clearInterval(timer))
  },

  /** /short — announces 1000 bytes, sends 500 and closes. */
  short(response) {
    response.socket?.end(`HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n${'x'.repeat(500)}`)
  },

  /** /long — announces 500 bytes and sends 1000. */
  long(response) {
    response.socket?.end(`HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n${'x'.repeat(1000)}`)
  },

  /** /cut — a chunked body that is broken off. */
  cut(response) {
    response.writeHead(200).write('x'.repeat(500), () => response.destroy())
  },

  /** /reset — closes instead of answering. */
  reset(response) {
    response.destroy()
  },

  /** /garbage — what is not HTTP. */
  garbage(response) {
    response.socket?.end('SSH-2.0-OpenSSH_9.9\r\n')
  },

  /** /endless — zeros for ever, without a length. */
  endless(response) {
    response.writeHead(200)
    pour(response, Number.POSITIVE_INFINITY)
  },

  /** /gzip — compressed without being asked: 1 MB from 1 KB. */
  gzip(response) {
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(1024 * 1024)))
  },

  /** /huge-headers — 64 KB of them. */
  'huge-headers'(response) {
    response.writeHead(200, { 'x-huge': 'x'.repeat(64 * 1024) }).end('x')
  },

  /** /cookies — sets one and redirects to /file. */
  cookies(response) {
    response.writeHead(302, { 'set-cookie': 'session=1; Path=/', location: '/file?bytes=1000' }).end()
  },
}

/** Zeros at the pace of the reader. */
function pour(response: ServerResponse, bytes: number): void {
  const chunk = Buffer.alloc(64 * 1024)
  let left = bytes
  const write = () => {
    while (left > 0 && !response.destroyed) {
      const size = Math.min(left, chunk.length)
      left -= size
      if (!response.write(chunk.subarray(0, size))) return void response.once('drain', write)
    }
    response.end()
  }
  write()
}
