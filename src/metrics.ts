/** Every metric there is, by name. Labels are few and bounded: never an id, a path or a partner. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60]

export type Metrics = ReturnType<typeof openMetrics>

export function openMetrics(o: { jobs: () => Promise<{ waiting: number; failed: number }> }) {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  new Gauge({
    name: 'satchel_jobs',
    help: 'Jobs in the table: waiting (also those under way) and failed (given up, kept for a person to look at).',
    labelNames: ['state'],
    registers,
    async collect() {
      this.reset()
      // Without the database there is no number, and all the other metrics are wanted the more.
      const jobs = await o.jobs().catch(() => undefined)
      if (!jobs) return
      this.set({ state: 'waiting' }, jobs.waiting)
      this.set({ state: 'failed' }, jobs.failed)
    },
  })
  return {
    registry,
    requests: new Histogram({
      name: 'satchel_http_request_seconds',
      help: 'Time from the request to the end of its answer.',
      labelNames: ['door', 'route', 'method', 'status'],
      buckets: SECONDS,
      registers,
    }),
    received: new Counter({
      name: 'satchel_received_bytes_total',
      help: 'Bytes taken in: by upload, or downloaded by direct URL.',
      labelNames: ['source'],
      registers,
    }),
    served: new Counter({
      name: 'satchel_served_bytes_total',
      help: 'Bytes of files that the CDN was asked to send.',
      registers,
    }),
    attachments: new Counter({
      name: 'satchel_attachments_total',
      help: 'Attachments by what became of them: created, complete, failed, deleted, vanished.',
      labelNames: ['outcome'],
      registers,
    }),
    webhooks: new Histogram({
      name: 'satchel_webhook_attempt_seconds',
      help: 'Time of one attempt to deliver a webhook, by outcome: delivered, retry, failed, gone.',
      labelNames: ['outcome'],
      buckets: SECONDS,
      registers,
    }),
    messages: new Counter({
      name: 'satchel_messages_total',
      help: 'Messages accepted from callers.',
      registers,
    }),
  }
}
