/** Contract 4.1: a recipient who writes STOP has opted out, until START. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { receive } from '../support/sandbox.ts'
import { startServer } from '../support/satchel.ts'
import { lineOf } from '../support/scene.ts'

test('a word that stops makes the chat OPTED_OUT, one that starts makes it HEALTHY, and sends go on either way', async () => {
  await using server = await startServer()
  const client = server.client()
  const write = (text: string) => receive(server, { from: '+14155550177', to: lineOf(server), text })
  const { chat_id } = await write('Hello')
  const health = async () => (await client.chats.retrieve(chat_id)).health_status
  assert.equal((await health()).status, 'HEALTHY')
  for (const [text, status] of [
    ['STOP', 'OPTED_OUT'],
    ['please START again', 'OPTED_OUT'],
    ['START', 'HEALTHY'],
    ['Please stop', 'HEALTHY'],
    ['Quit ', 'OPTED_OUT'],
  ] as const) {
    await write(text)
    const now = await health()
    assert.equal(now.status, status, text)
    assert.match(now.doc_url, status === 'HEALTHY' ? /#healthy$/ : /#opted-out$/)
  }
  const { message } = await client.chats.messages.send(chat_id, {
    message: { parts: [{ type: 'text', value: 'Bye' }] },
  })
  assert.equal(message.delivery_status, 'pending')
})
