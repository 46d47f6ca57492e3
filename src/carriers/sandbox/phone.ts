/**
 * The pretend phone network: takes every message, says it was sent after a moment and delivered a moment later, unless the
 * recipient is one of the magic numbers or a fault was armed. Its plans are jobs, so they outlive a crash; their ids come
 * from the message's, so taking a message twice changes nothing.
 */
import type { App } from '../../app.ts'
import { enqueue, type Payload } from '../../jobs/jobs.ts'
import type { Carrier } from '../carrier.ts'
import type { Faults } from './faults.ts'

type Step = Omit<Payload['sandbox.report'], 'message_id'> & { afterMs: number }

const SENT: Step = { type: 'sent', afterMs: 150 }
const DELIVERED: Step = { type: 'delivered', afterMs: 450 }

/** Recipients that do the common things without a call. The table in docs/sandbox.md is made of this. */
export const MAGIC_RECIPIENTS: Record<string, { about: string; steps: readonly Step[] }> = {
  '+14155550190': { about: 'reads every message', steps: [SENT, DELIVERED, { type: 'read', afterMs: 800 }] },
  '+14155550191': {
    about: 'cannot be delivered to: fails with 4001',
    steps: [SENT, { type: 'failed', code: 4001, afterMs: 450 }],
  },
  '+14155550192': { about: 'fails with 3007 before it is sent', steps: [{ type: 'failed', code: 3007, afterMs: 300 }] },
  '+14155550193': { about: 'is never reached: stays at sent', steps: [SENT] },
  '+14155550194': { about: 'is delivered to after 30 seconds', steps: [SENT, { type: 'delivered', afterMs: 30_000 }] },
  '+14155550195': {
    about: 'fails with 4001 and is delivered to after all',
    // The code of the last step is what it makes up for when it overtakes the one before.
    steps: [SENT, { type: 'failed', code: 4001, afterMs: 450 }, { type: 'delivered', code: 4001, afterMs: 1_200 }],
  },
  '+14155550196': {
    about: 'answers every message with the same',
    steps: [SENT, DELIVERED, { type: 'reply', afterMs: 900 }],
  },
}

export function openSandbox(app: Pick<App, 'db' | 'clock'>, faults: Faults): Carrier {
  return {
    async send({ id, partnerId, to }) {
      const now = app.clock.now()
      const recipient = to[0] ?? ''
      const fault = faults.take('delivery_failed', partnerId, { to: recipient })
      const code = fault?.code === 3007 ? 3007 : 4001
      const usual = to.length === 1 ? (MAGIC_RECIPIENTS[recipient]?.steps ?? [SENT, DELIVERED]) : [SENT, DELIVERED]
      const steps = fault ? [SENT, { type: 'failed' as const, code, afterMs: 450 } satisfies Step] : usual
      await app.db.transaction().execute(async (tx) => {
        for (const { afterMs, ...step } of steps) {
          const payload = { message_id: id, ...step }
          await enqueue(tx, { id: `${id}:${step.type}`, kind: 'sandbox.report', payload, runAt: now + afterMs })
        }
      })
      return { carrierRef: id }
    },
  }
}
