/** `satchel listen` and `satchel trigger` against the real server: a local receiver gets signed events without a subscription. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Webhook } from 'standardwebhooks'
import { png } from '../fixtures/media/files.ts'
import { openReceiver } from '../support/receiver.ts'
import { runCli, startServer } from '../support/satchel.ts'
import { eventually } from '../support/scene.ts'

const BIN = fileURLToPath(new URL('../../bin/satchel.js', import.meta.url))

test('what is triggered reaches a local receiver, signed with the secret that listen prints', async () => {
  await using receiver = await openReceiver()
  await using server = await startServer()
  const env = { LINQ_API_V3_BASE_URL: `${server.api}/api/partner`, LINQ_API_V3_API_KEY: server.apiKey }
  const listening = spawn(process.execPath, [BIN, 'listen', '--forward-to', receiver.url('/hook')], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let printed = ''
  listening.stdout.on('data', (chunk) => {
    printed += chunk
  })
  const ended = once(listening, 'exit')
  const secretOf = () => /LINQ_WEBHOOK_SECRET=(whsec_\S+)/.exec(printed)?.[1]
  await eventually(
    async () => secretOf() !== undefined && /listening|connected|ready/i.test(printed),
    (isUp) => isUp,
  )

  const photo = join(server.dataDir, 'photo.png')
  await writeFile(photo, png())
  const triggered = await runCli(['trigger', 'message.received', '--file', photo, '--text', 'Look'], env)
  assert.equal(triggered.code, 0, triggered.stderr)
  const delivery = await eventually(
    async () => receiver.deliveries.find(({ event }) => event.event_type === 'message.received'),
    (found) => found !== undefined,
  )
  assert.ok(delivery)
  new Webhook(secretOf() ?? '').verify(delivery.body, delivery.headers)
  const [words, media] = delivery.event.data.parts
  assert.equal(words?.value, 'Look')
  const served = await fetch(media?.url ?? '')
  assert.deepEqual(Buffer.from(await served.arrayBuffer()), png())
  await eventually(
    async () => /message\.received.*200/.test(printed),
    (isShown) => isShown,
  )

  listening.kill('SIGINT')
  assert.deepEqual(await ended, [0, null])
})
