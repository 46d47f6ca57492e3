/** A CDN before us is told what was deleted, until it has understood, and of nothing that it never can have seen. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { jpeg } from '../fixtures/media/files.ts'
import { startServer } from '../support/satchel.ts'

test('a deletion is told to the purge hook, again until it answers 2xx', async () => {
  const told: { url: string | undefined; type: string | undefined; body: unknown }[] = []
  const hook = createServer(async (request, response) => {
    const body = JSON.parse(String(await buffer(request)))
    told.push({ url: request.url, type: request.headers['content-type'], body })
    response.writeHead(told.length < 3 ? 500 : 204).end()
  }).listen(0, '127.0.0.1')
  await once(hook, 'listening')
  const address = hook.address()
  const port = typeof address === 'object' ? address?.port : undefined
  try {
    await using server = await startServer({ env: { SATCHEL_CDN_PURGE_URL: `http://127.0.0.1:${port}/purge?token=x` } })
    const bytes = jpeg()
    const create = () =>
      server.client().attachments.create({ filename: 'a b.jpg', content_type: 'image/jpeg', size_bytes: bytes.length })
    const [never, slot] = [await create(), await create()]
    const put = await fetch(slot.upload_url, { method: 'PUT', headers: slot.required_headers, body: bytes })
    assert.equal(put.status, 200)
    await server.client().attachments.delete(never.attachment_id)
    await server.client().attachments.delete(slot.attachment_id)
    const until = Date.now() + 15_000
    while (told.length < 3 && Date.now() < until) await sleep(50)
    await sleep(500)
    const expected = { url: '/purge?token=x', type: 'application/json', body: { urls: [slot.download_url] } }
    assert.deepEqual(told, [expected, expected, expected])
    assert.ok(!server.log().includes('token=x'), 'the log holds no secret of the hook')
  } finally {
    hook.closeAllConnections()
    hook.close()
  }
})
