/** A subscription's secret can be changed without losing a delivery: for the overlap, both secrets sign. */
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { type Delivery, openReceiver, subscribe } from '../support/receiver.ts'
import { advance, receive } from '../support/sandbox.ts'
import { runCli, startServer } from '../support/satchel.ts'
import { eventually, lineOf } from '../support/scene.ts'

const fits = (secret: string, { body, headers }: Delivery): boolean => {
  try {
    new Webhook(secret).verify(body, headers)
    return true
  } catch {
    return false
  }
}
const legacy = (secret: string, { body, headers }: Delivery): string =>
  createHmac('sha256', secret).update(`${headers['x-webhook-timestamp']}.${body}`).digest('hex')

test('after a rotation both secrets fit until the overlap is over, and then only the new one', async () => {
  await using receiver = await openReceiver()
  await using server = await startServer({ env: { SATCHEL_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` } })
  const { id, signing_secret: old } = await subscribe(server.client(), receiver.url(), ['message.received'])
  const next = async (text: string): Promise<Delivery> => {
    await receive(server, { from: '+14155550177', to: lineOf(server), text })
    const found = await eventually(
      async () => receiver.deliveries.find(({ body }) => body.includes(text)),
      (delivery) => delivery !== undefined,
    )
    assert.ok(found)
    return found
  }
  assert.ok(fits(old, await next('before')))

  const { code, stdout } = await runCli(['webhooks', 'rotate', id, '--overlap', '2'], {
    SATCHEL_DATA_DIR: server.dataDir,
  })
  const secret = stdout.trim()
  assert.equal(code, 0)
  assert.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/)
  const during = await next('during')
  assert.ok(fits(old, during) && fits(secret, during))
  assert.equal(during.headers['x-webhook-signature'], legacy(old, during))

  await advance(server, 2 * 3600 + 1)
  const after = await next('after')
  assert.ok(!fits(old, after) && fits(secret, after))
  assert.equal(after.headers['x-webhook-signature'], legacy(secret, after))
})

test('rotating a subscription that does not exist says so and exits with 1', async () => {
  await using server = await startServer()
  const unknown = '01890a5d-ac96-774b-bcce-b302099a8057'
  const { code, stderr } = await runCli(['webhooks', 'rotate', unknown], { SATCHEL_DATA_DIR: server.dataDir })
  assert.equal(code, 1)
  assert.match(stderr, /Webhook subscription not found/)
})
