/**
 * The yardstick for API calls: node:http and node:sqlite and nothing else. No routes, no checks, no keys; each POST is one
 * transaction, committed and synced before its answer, as a first version of any such server would have it.
 */
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { get } from 'node:https'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

const [folder = '.', port = '0'] = process.argv.slice(2)
const database = new DatabaseSync(join(folder, 'bare.sqlite'))
database.exec('pragma journal_mode = wal; pragma synchronous = full')
for (const table of ['first', 'second', 'third']) {
  database.exec(
    `create table if not exists ${table} (id text primary key, filename text, content_type text, size_bytes integer, at integer)`,
  )
}
const [first, second, third] = ['first', 'second', 'third'].map((table) =>
  database.prepare(`insert into ${table} values (?, ?, ?, ?, ?)`),
)
const begin = database.prepare('begin immediate')
const commit = database.prepare('commit')

const answer = JSON.stringify({
  id: randomUUID(),
  filename: 'photo.jpg',
  content_type: 'image/jpeg',
  size_bytes: 50_000,
  status: 'complete',
  created_at: new Date().toISOString(),
  download_url: `http://127.0.0.1/attachments/partners/${randomUUID()}/${randomUUID()}/photo.jpg`,
})

createServer((request, response) => {
  const end = (text: string) =>
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }).end(text)
  if (request.url === '/constant') return void end(answer)
  if (request.url?.startsWith('/fetch?')) {
    return void get(request.url.slice('/fetch?'.length), (file) => {
      let received = 0
      file.on('data', (chunk: Buffer) => {
        received += chunk.length
      })
      file.on('end', () => end(JSON.stringify({ received })))
    })
  }
  const chunks: Buffer[] = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const { filename, content_type, size_bytes } = JSON.parse(Buffer.concat(chunks).toString()) as Record<
      string,
      string
    >
    const row = [randomUUID(), filename ?? '', content_type ?? '', size_bytes ?? 0, Date.now()] as const
    if (request.url === '/one') first?.run(...row)
    else {
      begin.run()
      for (const insert of [first, second, third]) insert?.run(...row)
      commit.run()
    }
    end(JSON.stringify({ id: row[0], filename, content_type, size_bytes, at: row[4], url: `/uploads/${row[0]}` }))
  })
}).listen(Number(port), '127.0.0.1')
