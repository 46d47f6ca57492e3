/** Prosody's mod_http_file_share: upload tokens as its XMPP side would mint them; no hash, no sync. */
import { createHmac } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LARGE, SMALL } from '../bodies.ts'
import type { Request } from '../load.ts'
import { isListening, Program } from '../process.ts'
import type { Size, Target } from '../target.ts'

const MODULE = '/usr/lib/prosody/modules/mod_http_file_share.lua'
const SECRET = 'the secret of a benchmark'

export const prosody: Target = {
  name: 'prosody',
  kind: 'peer',
  about: 'prosody of Debian, mod_http_file_share: tokens checked, no hash, no sync',
  missing: async () =>
    existsSync(MODULE) ? undefined : 'prosody with mod_http_file_share is not installed (apt-get install prosody)',
  async start(folder, { load, port: free }) {
    const port = free()
    mkdirSync(join(folder, 'data'), { recursive: true })
    writeFileSync(join(folder, 'prosody.cfg.lua'), configuration(folder, port))
    const program = new Program('prosody', ['--config', join(folder, 'prosody.cfg.lua'), '-F', '--root'])
    await program.waitFor(() => isListening(port))
    const host = 'files.localhost'
    const run = Date.now().toString(36)
    let names = 0
    function put(size: Size): Request {
      const body = size === 'small' ? SMALL : LARGE
      const now = Math.floor(Date.now() / 1000)
      const slot = `slot-${run}-${names++}`
      const name = size === 'small' ? 'photo.jpg' : 'film.mov'
      const type = size === 'small' ? 'image/jpeg' : 'video/quicktime'
      const about = { slot, filename: name, filesize: body.length, filetype: type }
      const token = jwt({ sub: 'user@localhost', iat: now, exp: now + 3600, expires: now + 86_400, ...about })
      return {
        method: 'PUT',
        path: `/file_share/${slot}/${name}`,
        host,
        headers: { authorization: `Bearer ${token}`, 'content-type': type },
        body,
      }
    }
    const known = new Map<Size, string[]>()
    async function paths(size: Size): Promise<string[]> {
      const before = known.get(size)
      if (before) return before
      const puts = Array.from({ length: size === 'small' ? 200 : 1 }, () => put(size))
      const played = await load.play(puts, { port, connections: 1 })
      if (played.failed > 0) throw new Error(`prosody refused its files: ${JSON.stringify(played.statuses)}`)
      const made = puts.map(({ path }) => path)
      known.set(size, made)
      return made
    }
    return {
      pid: program.pid,
      uploads: async (size, count) => ({ port, requests: Array.from({ length: count }, () => put(size)) }),
      downloads: async (size) => ({
        port,
        requests: (await paths(size)).map((path) => ({ method: 'GET', path, host })),
      }),
      stop: () => program.stop(),
    }
  },
}

function jwt(payload: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(payload)}`
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`
}

const configuration = (folder: string, port: number) => `
run_as_root = true
data_path = "${folder}/data"
pidfile = "${folder}/prosody.pid"
plugin_paths = {}
modules_enabled = { "http" }
modules_disabled = { "s2s", "c2s", "posix", "offline" }
c2s_ports = {}
s2s_ports = {}
http_interfaces = { "127.0.0.1" }
http_ports = { ${port} }
https_ports = {}
http_max_content_size = 209715200
http_max_buffer_size = 1048576
log = { error = "${folder}/error.log" }
VirtualHost "localhost"
Component "files.localhost" "http_file_share"
  http_host = "files.localhost"
  http_file_share_secret = "${SECRET}"
  http_file_share_size_limit = 209715200
  http_file_share_daily_quota = 1099511627776
  http_file_share_access = { "localhost" }
`
