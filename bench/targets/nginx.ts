/** nginx: PUT by its dav module, GET by sendfile. It checks, hashes and syncs nothing: the limit, not a rival. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LARGE, SMALL } from '../bodies.ts'
import type { Request } from '../load.ts'
import { isListening, Program } from '../process.ts'
import type { Plan, Size, Target } from '../target.ts'

const LARGE_FILES = 4
const SMALL_FILES = 200

export const nginx: Target = {
  name: 'nginx',
  kind: 'limit',
  about: 'nginx of Debian, two workers, dav PUT and sendfile; no check, no hash, no sync',
  async missing() {
    try {
      const { stderr } = {
        stderr: execFileSync('nginx', ['-V'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }),
      }
      return stderr === undefined ? 'nginx did not run' : undefined
    } catch {
      return 'nginx is not installed (apt-get install nginx-extras)'
    }
  },
  async start(folder, { load, port: free }) {
    const port = free()
    const root = join(folder, 'files')
    mkdirSync(root, { recursive: true })
    mkdirSync(join(folder, 'body'), { recursive: true })
    writeFileSync(join(folder, 'nginx.conf'), configuration(folder, port))
    const program = new Program('nginx', [
      '-p',
      folder,
      '-c',
      join(folder, 'nginx.conf'),
      '-e',
      join(folder, 'error.log'),
    ])
    await program.waitFor(() => isListening(port))
    const host = `127.0.0.1:${port}`
    const run = Date.now().toString(36)
    let names = 0
    const put = (body: { offset: number; length: number }): Request => {
      const name = names++
      const path = `/${(name % 256).toString(16).padStart(2, '0')}/${run}-${name}`
      return { method: 'PUT', path, host, body }
    }
    const known = new Map<Size, string[]>()
    async function paths(size: Size): Promise<string[]> {
      const before = known.get(size)
      if (before) return before
      const puts = Array.from({ length: size === 'small' ? SMALL_FILES : LARGE_FILES }, () =>
        put(size === 'small' ? SMALL : LARGE),
      )
      await load.play(puts, { port, connections: 4 })
      const made = puts.map(({ path }) => path)
      known.set(size, made)
      return made
    }
    return {
      pid: program.pid,
      uploads: async (size, count): Promise<Plan> => ({
        port,
        requests: Array.from({ length: count }, () => put(size === 'small' ? SMALL : LARGE)),
      }),
      downloads: async (size) => ({
        port,
        requests: (await paths(size)).map((path) => ({ method: 'GET', path, host })),
      }),
      ranges: async () => ({ port, requests: rangesOf(await paths('large'), host) }),
      stop: () => program.stop(),
    }
  },
}

/** 50 KB each, at 97 places of each file. */
export function rangesOf(paths: string[], host: string): Request[] {
  return Array.from({ length: 97 }, (_, index) =>
    paths.map((path): Request => {
      const start = (index * 1_048_573) % (LARGE.length - SMALL.length)
      return { method: 'GET', path, host, headers: { range: `bytes=${start}-${start + SMALL.length - 1}` } }
    }),
  ).flat()
}

const configuration = (folder: string, port: number) => `
daemon off;
user root;
worker_processes 2;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log error;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  client_max_body_size 200m;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/t1; fastcgi_temp_path ${folder}/t2; uwsgi_temp_path ${folder}/t3; scgi_temp_path ${folder}/t4;
  server {
    listen 127.0.0.1:${port} backlog=1024;
    root ${folder}/files;
    location / { dav_methods PUT; create_full_put_path on; }
  }
}
`
