/** Satchel itself, as its users start it: signatures checked, SHA-256, content judged, bytes and rows synced. */
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { type Postgres, startPostgres } from '../../test/support/postgres.ts'
import { LARGE, SMALL } from '../bodies.ts'
import type { Request } from '../load.ts'
import { Program } from '../process.ts'
import type { Plan, Running, Size, Target, Tools } from '../target.ts'
import { rangesOf } from './nginx.ts'

const BIN = fileURLToPath(new URL('../../bin/satchel.js', import.meta.url))
const LARGE_FILES = 4
const SMALL_FILES = 200
const CHATS = 64
export const PHONE_NUMBER = '+12025550100'

export const satchel: Target = {
  name: 'satchel',
  kind: 'ours',
  about: 'Satchel on SQLite and disk, one process',
  start: (folder, tools) => startSatchel(folder, tools, {}),
}

let postgres: Postgres | undefined

/** With a PostgreSQL of its own, synced commits, the rest by its defaults. */
export const satchelPostgres: Target = {
  name: 'satchel-postgres',
  kind: 'ours',
  about: 'Satchel on PostgreSQL and disk, one process',
  async missing() {
    try {
      postgres ??= await startPostgres({ durable: true })
      return undefined
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  },
  start: async (folder, tools) => {
    if (!postgres) throw new Error('PostgreSQL was not started')
    return await startSatchel(folder, tools, { SATCHEL_DATABASE_URL: postgres.url() })
  },
  release: async () => postgres?.[Symbol.asyncDispose](),
}

export type RunningSatchel = Running & {
  readonly api: string
  readonly apiKey: string
  readonly readyMs: number
  call(path: string, body?: unknown, method?: string): Promise<unknown>
}

export async function startSatchel(
  folder: string,
  { load, caPath, egress }: Pick<Tools, 'load' | 'caPath' | 'egress'>,
  env: Record<string, string>,
): Promise<RunningSatchel> {
  const apiKey = 'benchmark-key'
  const began = performance.now()
  const program = new Program(process.execPath, [BIN, 'serve'], {
    env: {
      SATCHEL_PORT: '0',
      SATCHEL_CDN_PORT: '0',
      SATCHEL_DATA_DIR: folder,
      SATCHEL_API_KEY: apiKey,
      SATCHEL_PHONE_NUMBERS: PHONE_NUMBER,
      SATCHEL_EGRESS_ALLOW: egress,
      SATCHEL_LOG_LEVEL: 'warn',
      NODE_EXTRA_CA_CERTS: caPath,
      ...env,
    },
  })
  await program.waitFor(() => program.stdout.includes('For the official SDKs'))
  const readyMs = performance.now() - began
  const api = /API base URL\s+(http:\S+?)\/api/.exec(program.stdout)?.[1] ?? ''
  const apiUrl = new URL(api)
  const cdnUrl = new URL(/CDN\s+(\S+)/.exec(program.stdout)?.[1] ?? '')
  const host = apiUrl.host
  const headers = { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' }
  const post = (path: string, body: unknown): Request => ({
    method: 'POST',
    path: `/api/partner/v3${path}`,
    host,
    headers,
    body: JSON.stringify(body),
  })
  const onApi = (requests: Request[]): Plan => ({ port: Number(apiUrl.port), requests })
  const onCdn = (requests: Request[]): Plan => ({ port: Number(cdnUrl.port), requests })

  const creation = (size: Size) =>
    size === 'small'
      ? post('/attachments', { filename: 'photo.jpg', content_type: 'image/jpeg', size_bytes: SMALL.length })
      : post('/attachments', { filename: 'film.mov', content_type: 'video/quicktime', size_bytes: LARGE.length })

  type Created = { attachment_id: string; upload_url: string; download_url: string }
  async function create(size: Size, count: number): Promise<Created[]> {
    const answers = await load.ask(
      Array.from({ length: count }, () => creation(size)),
      { port: Number(apiUrl.port), connections: Math.min(8, count) },
    )
    return answers.map(({ body }) => JSON.parse(body) as Created)
  }
  const pathOf = (url: string) => url.slice(cdnUrl.origin.length)
  const put = (size: Size, { upload_url }: Created): Request => ({
    method: 'PUT',
    path: pathOf(upload_url),
    host: cdnUrl.host,
    headers: { 'content-type': size === 'small' ? 'image/jpeg' : 'video/quicktime' },
    body: size === 'small' ? SMALL : LARGE,
  })

  const known = new Map<Size, Created[]>()
  async function files(size: Size): Promise<Created[]> {
    const before = known.get(size)
    if (before) return before
    const made = await create(size, size === 'small' ? SMALL_FILES : LARGE_FILES)
    const played = await load.play(
      made.map((created) => put(size, created)),
      { port: Number(cdnUrl.port), connections: 4 },
    )
    if (played.failed > 0) throw new Error(`Satchel refused its files: ${JSON.stringify(played.statuses)}`)
    known.set(size, made)
    return made
  }

  let chatIds: string[] = []
  /** Chats as they come about: by a first message. Waits until what follows from it is over. */
  async function chats(): Promise<string[]> {
    if (chatIds.length > 0) return chatIds
    const openings = Array.from({ length: CHATS }, (_, index) =>
      post('/chats', {
        from: PHONE_NUMBER,
        to: [`+1415556${String(1000 + index)}`],
        message: { parts: [{ type: 'text', value: 'hello' }] },
      }),
    )
    const answers = await load.ask(openings, { port: Number(apiUrl.port), connections: 8 })
    chatIds = answers.map(({ body }) => (JSON.parse(body) as { chat: { id: string } }).chat.id)
    return chatIds
  }
  const intoChats = async (count: number, part: () => unknown): Promise<Request[]> => {
    const ids = await chats()
    return Array.from({ length: count }, (_, index) =>
      post(`/chats/${ids[index % ids.length]}/messages`, { message: { parts: [part()] } }),
    )
  }

  return {
    pid: program.pid,
    api,
    apiKey,
    readyMs,
    async call(path, body, method) {
      const answer = await fetch(`${api}/api/partner/v3${path}`, {
        method: method ?? (body === undefined ? 'GET' : 'POST'),
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`)
      return answer.status === 204 ? undefined : await answer.json()
    },
    uploads: async (size, count) => onCdn((await create(size, count)).map((created) => put(size, created))),
    downloads: async (size) =>
      onCdn(
        (await files(size)).map(({ download_url }) => ({
          method: 'GET',
          path: pathOf(download_url),
          host: cdnUrl.host,
        })),
      ),
    ranges: async () =>
      onCdn(
        rangesOf(
          (await files('large')).map(({ download_url }) => pathOf(download_url)),
          cdnUrl.host,
        ),
      ),
    creates: async (count) => onApi(Array.from({ length: count }, () => creation('small'))),
    async sends(count) {
      const [file] = await files('small')
      return onApi(await intoChats(count, () => ({ type: 'media', attachment_id: file?.attachment_id })))
    },
    async retrieves() {
      const made = await files('small')
      return onApi(
        made.map(({ attachment_id: id }) => ({
          method: 'GET',
          path: `/api/partner/v3/attachments/${id}`,
          host,
          headers,
        })),
      )
    },
    fetches: async (count, url) =>
      onApi(await intoChats(count, () => ({ type: 'media', url: `${url}?${randomBytes(6).toString('hex')}` }))),
    stop: () => program.stop(),
  }
}
