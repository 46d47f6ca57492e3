/**
 * OTLP over HTTP as JSON (https://opentelemetry.io/docs/specs/otlp/#otlphttp). It never holds work up and never fails it:
 * spans wait in a bounded queue, go out in batches, and are dropped when the collector does not take them.
 */
import { performance } from 'node:perf_hooks'
import type { Log } from '../log.ts'
import type { Attributes } from './tracer.ts'

const QUEUE_SPANS = 4_096
const BATCH_SPANS = 512
const EVERY_MS = 2_000
const POST_MS = 10_000
const LAST_POST_MS = 2_000
const COMPLAIN_MS = 60_000

export type OtlpSpan = Readonly<Record<string, unknown>>

export const otlpAttributes = (attributes: Attributes) =>
  Object.entries(attributes).map(([key, value]) => ({
    key,
    value: typeof value === 'number' ? { intValue: String(value) } : { stringValue: value },
  }))

/** Holds spans back for a moment and posts them together. */
export function openOutbox({ url, version, log }: { url: string; version: string; log: Log }) {
  const target = /\/v1\/traces$/.test(url) ? url : `${url}/v1/traces`
  const resource = { attributes: otlpAttributes({ 'service.name': 'satchel', 'service.version': version }) }
  const waiting: OtlpSpan[] = []
  const closing = new AbortController()
  let dropped = 0
  let complainedAt = Number.NEGATIVE_INFINITY
  let posting: Promise<void> | undefined

  async function post(limitMs: number): Promise<void> {
    const spans = waiting.splice(0, BATCH_SPANS)
    try {
      const answer = await fetch(target, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ scope: { name: 'satchel' }, spans }] }] }),
        signal: AbortSignal.any([closing.signal, AbortSignal.timeout(limitMs)]),
      })
      await answer.body?.cancel()
      if (!answer.ok) throw new Error(`the collector answered ${answer.status}`)
    } catch (error) {
      dropped += spans.length
      complain(error)
    }
  }

  function complain(error?: unknown): void {
    if (performance.now() - complainedAt < COMPLAIN_MS) return
    complainedAt = performance.now()
    log.warn({ err: error, dropped }, 'traces are being dropped')
    dropped = 0
  }

  function flush(): void {
    if (posting || waiting.length === 0) return
    posting = post(POST_MS).finally(() => {
      posting = undefined
      if (waiting.length >= BATCH_SPANS) flush()
    })
  }

  const timer = setInterval(flush, EVERY_MS).unref()
  return {
    add(span: OtlpSpan): void {
      if (waiting.length >= QUEUE_SPANS) {
        dropped++
        complain()
        return
      }
      waiting.push(span)
      if (waiting.length >= BATCH_SPANS) flush()
    },
    async stop(): Promise<void> {
      clearInterval(timer)
      const end = performance.now() + LAST_POST_MS
      await Promise.race([posting, new Promise((resolve) => setTimeout(resolve, LAST_POST_MS).unref())])
      while (waiting.length > 0 && performance.now() < end) await post(Math.max(Math.ceil(end - performance.now()), 1))
      closing.abort()
      await posting
    },
  }
}
