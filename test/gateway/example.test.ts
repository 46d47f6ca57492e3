/** The gateway of docs/gateway.md, run as it stands there against the real server. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { jpeg } from '../fixtures/media/files.ts'
import { startServer } from '../support/satchel.ts'
import { eventually, lineOf, text, upload } from '../support/scene.ts'
import { OTHER_SECRET, SECRET, signedHeaders } from './double.ts'

const EXAMPLE = fileURLToPath(new URL('../../docs/examples/gateway.js', import.meta.url))
const PAPER = fileURLToPath(new URL('../../docs/gateway.md', import.meta.url))

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address ? address.port : assert.fail()
}

test('the example of the paper sends, reports every step and answers', async () => {
  const port = await freePort()
  await using server = await startServer({
    env: { SATCHEL_GATEWAY_URL: `http://127.0.0.1:${port}/`, SATCHEL_GATEWAY_SECRET: SECRET },
  })
  const env = { GATEWAY_PORT: String(port), GATEWAY_SECRET: SECRET, EVENTS_URL: `${server.api}/gateway/events` }
  const example = spawn(process.execPath, [EXAMPLE], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  try {
    let printed = ''
    for (const stream of [example.stdout, example.stderr]) {
      stream.on('data', (chunk) => {
        printed += chunk
      })
    }
    const client = server.client()
    const { attachment_id } = await upload(client, jpeg(), 'photo.jpg', 'image/jpeg')
    const from = lineOf(server)
    const parts = [text('Look'), { type: 'media' as const, attachment_id }]
    const { chat } = await client.chats.create({ from, to: ['+14155550101'], message: { parts } })
    const page = await eventually(
      () => client.chats.messages.list(chat.id),
      ({ messages }) => messages.length === 2,
    )
    const [answer, question] = page.messages
    assert.equal(question?.delivery_status, 'read')
    assert.ok(question.sent_at && question.delivered_at && question.read_at)
    const [part] = answer?.parts ?? []
    assert.equal(part?.type === 'text' && part.value, 'Got it')
    assert.match(printed, new RegExp(`photo\\.jpg, image/jpeg, ${jpeg().length} bytes`))
    assert.doesNotMatch(printed, /refused/)

    const body = JSON.stringify({ id: 'x', parts: [] })
    const forged = { method: 'POST', headers: signedHeaders(body, { secret: OTHER_SECRET }), body }
    assert.equal((await fetch(`http://127.0.0.1:${port}/`, forged)).status, 401)
  } finally {
    example.kill()
    await once(example, 'close')
  }
})

test('the paper shows the example as it is', async () => {
  const [paper, example] = await Promise.all([readFile(PAPER, 'utf8'), readFile(EXAMPLE, 'utf8')])
  for (const name of ['sign', 'isSigned', 'report', 'deliver', 'taken']) {
    assert.match(example, new RegExp(`(function|const) ${name}\\b`))
    assert.match(paper, new RegExp(`\`${name}\``))
  }
})
