/** A Satchel that has been in use, to be moved elsewhere, and what must be found where it was moved to. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { jpeg } from '../fixtures/media/files.ts'
import { runCli, type Server, startServer } from '../support/satchel.ts'

const folders: string[] = []
export const newFolder = async () => {
  const folder = await mkdtemp(join(tmpdir(), 'satchel-move-'))
  folders.push(folder)
  return folder
}
after(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true })
})

export const bare = (env: Record<string, string>) =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !/PORT$/.test(name)))
export const sqliteEnv = (folder: string) => ({
  SATCHEL_DATA_DIR: folder,
  SATCHEL_DATABASE_URL: `sqlite:${join(folder, 'satchel.sqlite')}`,
})
export const fromFolder = (folder: string) => [
  'migrate-data',
  '--from-database',
  `sqlite:${join(folder, 'satchel.sqlite')}`,
  '--from-storage',
  `file:${join(folder, 'files')}`,
]

/** A used Satchel, stopped: files, messages, a webhook that is owed, an idempotency key. */
export async function usedSatchel(files = 30) {
  const dataDir = await newFolder()
  const server = await startServer({ dataDir, env: { ...sqliteEnv(dataDir), SATCHEL_EGRESS_ALLOW: 'localhost:1' } })
  const client = server.client()
  await client.webhookSubscriptions.create({
    target_url: 'http://localhost:1/hook',
    subscribed_events: ['message.sent', 'message.delivered'],
  })
  const ids: string[] = []
  for (let n = 0; n < files; n++) {
    // Every third is too large to lie in one file with others.
    const file = Buffer.concat([jpeg(), Buffer.alloc(n % 3 === 0 ? 140_000 : 0), Buffer.from(`file ${n}`)])
    const slot = await client.attachments.create({
      filename: `${n}.jpg`,
      content_type: 'image/jpeg',
      size_bytes: file.length,
    })
    assert.equal(
      (await fetch(slot.upload_url, { method: 'PUT', headers: slot.required_headers, body: file })).status,
      200,
    )
    ids.push(slot.attachment_id)
  }
  await client.attachments.delete(ids.pop() ?? '')
  await send(server, ids[0] ?? '')
  await sleep(1_000)
  await server.stop()
  return { dataDir, apiKey: server.apiKey, ids }
}

const send = (server: Server, attachment_id: string) =>
  server.client().chats.create({
    from: server.phoneNumbers[0] ?? '',
    to: ['+14155550100'],
    message: { parts: [{ type: 'media', attachment_id }], idempotency_key: 'once' },
  })

export async function checkTarget(
  env: Record<string, string>,
  dataDir: string,
  used: Awaited<ReturnType<typeof usedSatchel>>,
) {
  await using target = await startServer({ dataDir, env: { ...env, SATCHEL_EGRESS_ALLOW: 'localhost:1' } })
  assert.equal(target.apiKey, used.apiKey)
  const client = target.client()
  for (const [n, id] of used.ids.entries()) {
    const { download_url = '' } = await client.attachments.retrieve(id)
    const answer = await fetch(download_url)
    assert.equal(answer.status, 200)
    assert.ok(
      Buffer.from(await answer.arrayBuffer())
        .toString('latin1')
        .endsWith(`file ${n}`),
    )
  }
  const before = await client.chats.listChats()
  const repeated = await send(target, used.ids[0] ?? '')
  assert.equal(repeated.chat.id, before.chats[0]?.id)
  assert.equal((await client.chats.messages.list(repeated.chat.id)).messages.length, 1)
  const { subscriptions } = await client.webhookSubscriptions.list()
  assert.equal(subscriptions.length, 1)
  assert.match((await runCli(['audit'], target.env)).stdout, /request/)
  assert.match((await runCli(['sweep'], target.env)).stdout, /Everything fits/)
}
