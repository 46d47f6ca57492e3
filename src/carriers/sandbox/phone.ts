/**
 * The pretend phone network: takes every message, says it was sent after a moment and delivered a moment later. Its plans
 * are jobs, so they outlive a crash; their ids come from the message's, so taking a message twice changes nothing.
 */
import type { App } from '../../app.ts'
import { enqueue } from '../../jobs/jobs.ts'
import type { Carrier } from '../carrier.ts'

const SENT_AFTER_MS = 150
const DELIVERED_AFTER_MS = 450

export function openSandbox(app: Pick<App, 'db' | 'clock'>): Carrier {
  return {
    async send({ id }) {
      const now = app.clock.now()
      await app.db.transaction().execute(async (tx) => {
        for (const [type, after] of [
          ['sent', SENT_AFTER_MS],
          ['delivered', DELIVERED_AFTER_MS],
        ] as const) {
          const job = { id: `${id}:${type}`, kind: 'sandbox.report', payload: { message_id: id, type } } as const
          await enqueue(tx, { ...job, runAt: now + after })
        }
      })
      return { carrierRef: id }
    },
  }
}
