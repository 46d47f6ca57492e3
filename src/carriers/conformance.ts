/**
 * What every carrier must keep to, whatever is behind it: a message handed over twice is one message there, and reports
 * arrive in any order, repeated, early or late, and only ever move a message forward.
 * A test of a carrier says how to open its other side; the program around it is the real one, on SQLite in a folder.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { App } from '../app.ts'
import { systemClock } from '../clock.ts'
import { openSqlite } from '../db/sqlite.ts'
import { randomHex, uuidv7 } from '../ids.ts'
import { openLog } from '../log.ts'
import { deliverMessage } from '../messages/deliver.ts'
import { deleteMessage } from '../messages/read.ts'
import { findOutbound } from '../messages/rows.ts'
import { createChat } from '../messages/send.ts'
import { openMetrics } from '../metrics.ts'
import { ensurePartner } from '../partners/create.ts'
import { parseEgressAllow } from '../remote/address.ts'
import { createRemote } from '../remote/request.ts'
import { openDisk } from '../storage/disk.ts'
import { noTracer } from '../telemetry/tracer.ts'
import type { Carrier, CarrierEvent, Outbound } from './carrier.ts'

export type OtherSide = {
  readonly carrier: Carrier
  /** The ids of the messages that it has taken; one that it was handed twice is there once. */
  taken(): Promise<string[]>
  /** It reports. Rejects when the report was not taken and will be made again. */
  report(event: CarrierEvent): Promise<void>
  close(): Promise<void>
}

/** A program without a carrier. */
export type Base = Omit<App, 'carrier'>

export function carrierConformance(name: string, open: (base: Base) => Promise<OtherSide>): void {
  describe(name, () => {
    let app: App
    let side: OtherSide
    const closing: (() => Promise<unknown>)[] = []
    before(async () => {
      const base = await openBase(closing)
      side = await open(base)
      closing.unshift(() => side.close())
      app = { ...base, carrier: side.carrier }
    })
    after(async () => {
      for (const close of closing) await close()
    })

    const signal = () => AbortSignal.timeout(10_000)
    const status = async (id: string) => (await findOutbound(app.db, id))?.delivery_status
    const eventsOf = (id: string) =>
      app.db.selectFrom('events').select(['type', 'data']).where('message_id', '=', id).orderBy('id').execute()
    const timesTaken = async (id: string) => (await side.taken()).filter((taken) => taken === id).length

    let people = 0
    async function accept(): Promise<Outbound> {
      const [from, to] = ['+12025550100', `+1415555${2000 + people++}`]
      const content = { parts: [{ type: 'text' as const, value: 'Hello' }] }
      const partnerId = await ensurePartner(app, { name: 'test', apiKey: 'test-key', phoneNumbers: [from] })
      const { body } = await createChat(app, { partnerId, traceId: randomHex(16), from, to: [to], content })
      const { id } = 'chat' in body ? body.chat.message : body.message
      return { id, partnerId, from, to: [to], service: 'iMessage', parts: [{ type: 'text', text: 'Hello' }] }
    }

    async function deliver(): Promise<{ id: string; carrierRef: string }> {
      const { id } = await accept()
      await deliverMessage(app, id, 1, signal())
      const carrierRef = (await findOutbound(app.db, id))?.carrier_ref
      assert.ok(carrierRef)
      return { id, carrierRef }
    }

    test('a message that is handed over twice is there once, under one reference', async () => {
      const message = await accept()
      const first = await side.carrier.send(message, signal())
      const second = await side.carrier.send(message, signal())
      assert.equal(first.carrierRef, second.carrierRef)
      assert.equal(await timesTaken(message.id), 1)
    })

    test('two messages have two references', async () => {
      const [one, two] = [await deliver(), await deliver()]
      assert.notEqual(one.carrierRef, two.carrierRef)
      assert.deepEqual([await timesTaken(one.id), await timesTaken(two.id)], [1, 1])
    })

    test('a message that is deleted while it is handed over was sent, and is removed', async () => {
      const { id, partnerId } = await accept()
      const send: Carrier['send'] = async (message, signal) => {
        const taken = await side.carrier.send(message, signal)
        await deleteMessage(app, partnerId, id)
        return taken
      }
      await deliverMessage({ ...app, carrier: { send } }, id, 1, signal())
      assert.equal(await timesTaken(id), 1)
      assert.equal(await findOutbound(app.db, id), undefined)
    })

    test('sent, delivered and read are kept with their times and told once each', async () => {
      const { id, carrierRef } = await deliver()
      const at = Date.now()
      for (const [index, type] of (['sent', 'delivered', 'read'] as const).entries()) {
        await side.report({ type, carrierRef, at: at + index })
        assert.equal(await status(id), type)
      }
      const { sent_at, delivered_at, read_at } = (await findOutbound(app.db, id)) ?? {}
      assert.deepEqual([sent_at, delivered_at, read_at], [at, at + 1, at + 2])
      const types = (await eventsOf(id)).map((event) => event.type)
      assert.deepEqual(types, ['message.sent', 'message.delivered', 'message.read'])
    })

    for (const order of permutations(['sent', 'delivered', 'read', 'failed'] as const)) {
      test(`${order.join(', ')}, each of them twice, only move a message forward`, async () => {
        const { id, carrierRef } = await deliver()
        let before = 0
        for (const type of order.flatMap((type) => [type, type])) {
          await side.report({ carrierRef, at: Date.now(), ...(type === 'failed' ? { type, code: 4001 } : { type }) })
          const now = ['queued', 'sent', 'failed', 'delivered', 'read'].indexOf((await status(id)) ?? '')
          assert.ok(now >= before, `${type} moved it back`)
          before = now
        }
        assert.equal(await status(id), 'read')
        const types = (await eventsOf(id)).map((event) => event.type)
        assert.deepEqual(types, [...new Set(types)])
      })
    }

    for (const code of [3007, 4001, 4005] as const) {
      test(`a failure with ${code} is told with its code, reason and time`, async () => {
        const { id, carrierRef } = await deliver()
        await side.report({ type: 'failed', carrierRef, at: Date.UTC(2026, 1, 16), code, reason: 'no such phone' })
        assert.equal(await status(id), 'failed')
        const [event] = await eventsOf(id)
        assert.equal(event?.type, 'message.failed')
        const data = JSON.parse(event.data)
        assert.deepEqual([data.message_id, data.code, data.reason], [id, code, 'no such phone'])
        assert.equal(data.failed_at, '2026-02-16T00:00:00.000Z')
      })
    }

    test('a report that comes before the reference is stored is not lost', async () => {
      const message = await accept()
      const { carrierRef } = await side.carrier.send(message, signal())
      const early = await side.report({ type: 'sent', carrierRef, at: Date.now() }).then(
        () => 'taken',
        () => 'refused',
      )
      assert.equal(await status(message.id), early === 'taken' ? 'sent' : 'pending')
      await deliverMessage(app, message.id, 1, signal())
      await side.report({ type: 'sent', carrierRef, at: Date.now() })
      assert.equal(await status(message.id), 'sent')
      await side.report({ type: 'delivered', carrierRef, at: Date.now() })
      assert.equal(await status(message.id), 'delivered')
      assert.equal(await timesTaken(message.id), 1)
    })

    test('a report on a message that nobody sent is refused', async () => {
      const carrierRef = app.newId()
      await assert.rejects(side.report({ type: 'sent', carrierRef, at: Date.now() }))
    })

    test('a message whose handing over was aborted can be handed over again, and is there once', async () => {
      const message = await accept()
      await side.carrier.send(message, AbortSignal.abort(new Error('enough'))).catch((error) => {
        assert.equal(error.message, 'enough')
      })
      await side.carrier.send(message, signal())
      assert.equal(await timesTaken(message.id), 1)
    })
  })
}

async function openBase(closing: (() => Promise<unknown>)[]): Promise<Base> {
  const folder = await mkdtemp(join(tmpdir(), 'satchel-carrier-'))
  const opened = await openSqlite(join(folder, 'satchel.sqlite'))
  const allow = parseEgressAllow('')
  const remote = createRemote({ allow, userAgent: 'Satchel/test' })
  closing.push(
    () => remote[Symbol.asyncDispose](),
    () => opened[Symbol.asyncDispose](),
    () => rm(folder, { recursive: true, force: true }),
  )
  return {
    urls: { api: 'http://127.0.0.1:1', cdn: 'http://127.0.0.1:2' },
    db: opened.db,
    storage: await openDisk(join(folder, 'files'), { exclusive: true }),
    spoolFolder: folder,
    direct: undefined,
    purge: undefined,
    sandbox: undefined,
    remote,
    egressAllow: allow,
    signingKey: { accessKeyId: 'satchel', secretAccessKey: 'secret', region: 'local' },
    clock: systemClock,
    newId: uuidv7(systemClock),
    log: openLog('silent'),
    tracer: noTracer,
    metrics: openMetrics({ jobs: async () => ({ waiting: 0, failed: 0 }) }),
  }
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]]
  return items.flatMap((item) => permutations(items.filter((other) => other !== item)).map((rest) => [item, ...rest]))
}
