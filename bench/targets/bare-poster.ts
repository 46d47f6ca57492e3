/** The yardstick for webhooks: undici, a pool, and COUNT POSTs of 1 KB, WIDTH at a time. */
import { Pool } from 'undici'

const [port = '0', count = '0', width = '1'] = process.argv.slice(2)
const pool = new Pool(`http://127.0.0.1:${port}`, { connections: Number(width) })
const body = Buffer.from(JSON.stringify({ data: 'z'.repeat(1000) }))
let begun = 0

async function post(): Promise<void> {
  while (begun < Number(count)) {
    begun++
    const headers = { 'content-type': 'application/json' }
    const { body: answer } = await pool.request({ method: 'POST', path: '/hook', headers, body })
    await answer.dump()
  }
}

await Promise.all(Array.from({ length: Number(width) }, post))
await pool.close()
