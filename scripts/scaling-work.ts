/** The requests that scripts/scaling.ts measures, to the real server, and what it measures them on. */
import type pg from 'pg'
import type { Opened } from '../src/db/schema.ts'
import type { Server } from '../test/support/satchel.ts'
import type { Sizes } from './scaling-rows.ts'

export const CONNECTIONS = 8
export const API_KEY = 'satchel_scaling'
export const LINE = '+12025550142'
const HEADERS = { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' }
const UPLOAD = Buffer.from('A few words, so that the cost is that of the rows and not of the bytes.\n')

export type Site = Sizes & {
  server: Server
  opened: Opened
  sql: pg.Client
  files: string
  partner: string
  fillSeconds: number
}
/** Draws what to work on, outside of the measurement; the work returns the milliseconds of each. */
export type Operation = { name: string; prepare(site: Site, count: number): Promise<() => Promise<number[]>> }

type Target = { url: string; init: RequestInit; expect: number }
type Drawn = { i: number; attachment: string; chat: string; number: string; address: string; middle: string }

/**
 * Ids are computed, never looked up: a look-up would bring into the cache what is to be measured. Chats whose number is a
 * multiple of 1,000 have an e-mail address in place of a telephone number.
 */
async function draw(site: Site, count: number, where: string): Promise<Drawn[]> {
  const { rows } = await site.sql.query<Drawn>(
    `select i::int, scaling.attachment_id(i) as attachment, scaling.chat_id(scaling.chat_of(i)) as chat,
       '+1' || (2100000000 + scaling.chat_of(i)) as number, scaling.time_of(scaling.messages() / 2) as middle,
       'guest' || i % (scaling.messages() / 10000 * 925) / 1000 * 1000 || '@example.com' as address
     from (select floor(random() * scaling.messages())::bigint as i from generate_series(1, $1)) as drawn
     where scaling.is_main(scaling.chat_of(i)) and scaling.chat_of(i) % 1000 > 0 and ${where} limit $2`,
    [count * 40, count],
  )
  if (rows.length < count) throw new Error(`drew only ${rows.length} of ${count} targets`)
  return rows
}

const requests = (name: string, where: string, make: (row: Drawn, site: Site) => Target): Operation => ({
  name,
  async prepare(site, count) {
    const targets = (await draw(site, count, where)).map((row) => make(row, site))
    return () => sideBySide(targets, request)
  },
})

async function request({ url, init, expect }: Target): Promise<string> {
  const response = await fetch(url, init)
  const text = await response.text()
  if (response.status !== expect) throw new Error(`${url}: ${response.status} ${text}`)
  return text
}

/** Milliseconds of each, several side by side. */
export async function sideBySide<T>(items: readonly T[], one: (item: T) => Promise<unknown>): Promise<number[]> {
  const queue = [...items]
  const times: number[] = []
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
        const start = performance.now()
        await one(item)
        times.push(performance.now() - start)
      }
    }),
  )
  return times
}

const get = ({ server }: Site, path: string): Target => ({
  url: `${server.api}/api/partner${path}`,
  init: { headers: HEADERS },
  expect: 200,
})
const post = ({ server }: Site, path: string, body: unknown, expect: number): Target => ({
  url: `${server.api}/api/partner${path}`,
  init: { method: 'POST', headers: HEADERS, body: JSON.stringify(body) },
  expect,
})
const create = (site: Site, name: string) => {
  const body = { filename: name, content_type: 'text/plain', size_bytes: UPLOAD.length }
  return post(site, '/v3/attachments', body, 200)
}
const send = (site: Site, chat: string, parts: unknown[]) =>
  post(site, `/v3/chats/${chat}/messages`, { message: { parts } }, 202)

const ANY = 'true'
const COMPLETE = 'scaling.is_complete(i)'
/** Chats of a hundred messages and more, so that every page is full. */
const LONG = 'scaling.chat_of(i) % 925 < 25'
const cursor = (row: Drawn) =>
  Buffer.from(`${Number(row.middle)}.01900000-0000-7000-8000-000000000000`).toString('base64url')

const complete: Operation = {
  name: 'complete an upload (PUT)',
  async prepare(site, count) {
    type Created = { upload_url: string; required_headers: Record<string, string> }
    const targets = await Promise.all(
      Array.from({ length: count }, async (_, at): Promise<Target> => {
        const { upload_url: url, required_headers: headers } = JSON.parse(
          await request(create(site, `${at}.txt`)),
        ) as Created
        return { url, init: { method: 'PUT', headers, body: UPLOAD }, expect: 200 }
      }),
    )
    return () => sideBySide(targets, request)
  },
}

export const REQUESTS: Operation[] = [
  requests('create an attachment', ANY, ({ i }, site) => create(site, `${i}.txt`)),
  complete,
  requests('get an attachment', ANY, ({ attachment }, site) => get(site, `/v3/attachments/${attachment}`)),
  requests('CDN look-up (HEAD)', COMPLETE, ({ i, attachment }, { server, partner }) => ({
    url: `${server.cdn}/attachments/partners/${partner}/${attachment}/IMG_${i}.jpg`,
    init: { method: 'HEAD' },
    expect: 200,
  })),
  requests('send a text', ANY, ({ chat }, site) => send(site, chat, [{ type: 'text', value: 'On my way' }])),
  requests('send an attachment', COMPLETE, ({ chat, attachment }, site) =>
    send(site, chat, [{ type: 'media', attachment_id: attachment }]),
  ),
  requests('list messages, first page (50)', LONG, ({ chat }, site) =>
    get(site, `/v3/chats/${chat}/messages?limit=50`),
  ),
  requests('list messages, deep page (50)', LONG, (row, site) =>
    get(site, `/v3/chats/${row.chat}/messages?limit=50&cursor=${cursor(row)}`),
  ),
  requests('list chats, first page (20)', ANY, (_, site) => get(site, '/v3/chats?limit=20')),
  requests('list chats, deep page (20)', ANY, (row, site) => get(site, `/v3/chats?limit=20&cursor=${cursor(row)}`)),
  requests('list chats with a number', ANY, ({ number }, site) =>
    get(site, `/v3/chats?to=${encodeURIComponent(number)}`),
  ),
  requests('list chats with an e-mail address', ANY, ({ address }, site) =>
    get(site, `/v3/chats?to=${encodeURIComponent(address)}`),
  ),
]
