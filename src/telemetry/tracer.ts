/**
 * Spans of what a request, a job or a delivery does, for an OpenTelemetry collector, with our X-Trace-ID as the trace id. Off
 * unless SATCHEL_OTLP_URL is set. Spans hold routes, kinds, statuses and host names; never a path, an id of a customer or a body.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { performance } from 'node:perf_hooks'
import { newTraceId, randomHex } from '../ids.ts'
import type { Log } from '../log.ts'
import { type OtlpSpan, openOutbox, otlpAttributes } from './otlp.ts'

export type Attributes = Readonly<Record<string, string | number>>
export type SpanKind = 'internal' | 'server' | 'client'

export interface Span {
  set(attributes: Attributes): void
  /** Only the first call counts. `error`: what it failed with. */
  end(error?: unknown): void
}

type About = {
  name: string
  kind: SpanKind
  /** Default: that of the work around it, else a new one. */
  traceId?: string
  attributes?: Attributes
}

export interface Tracer {
  /** A span around `work`, which gets it. */
  trace<T>(about: About, work: (span: Span) => Promise<T>): Promise<T>
  /** A span that somebody else ends. */
  start(about: About): Span
  /** What `work` starts belongs to the span. */
  within(span: Span, work: () => void): void
  /** The work under way turned out to belong to this trace. */
  join(traceId: string): void
  /** Sends what waits, within two seconds. */
  stop(): Promise<void>
}

const nothing: Span = { set() {}, end() {} }

export const noTracer: Tracer = {
  trace: (_, work) => work(nothing),
  start: () => nothing,
  within: (_, work) => work(),
  join() {},
  stop: async () => {},
}

const KINDS: Record<SpanKind, number> = { internal: 1, server: 2, client: 3 }
const ERROR = 2

export function openTracer(o: { url: string; version: string; log: Log }): Tracer {
  const around = new AsyncLocalStorage<LiveSpan>()
  const outbox = openOutbox(o)

  function start({ name, kind, traceId, attributes }: About): LiveSpan {
    const parent = around.getStore()
    const trace = traceId ?? parent?.traceId ?? newTraceId()
    return new LiveSpan({
      name,
      kind,
      traceId: trace,
      parentId: parent?.traceId === trace ? parent.id : undefined,
      attributes: { ...attributes },
      done: outbox.add,
    })
  }

  return {
    start,
    async trace(about, work) {
      const span = start(about)
      try {
        const result = await around.run(span, () => work(span))
        span.end()
        return result
      } catch (error) {
        span.end(error)
        throw error
      }
    },
    within: (span, work) => (span instanceof LiveSpan ? around.run(span, work) : work()),
    join(traceId) {
      around.getStore()?.join(traceId)
    },
    stop: outbox.stop,
  }
}

type Life = {
  name: string
  kind: SpanKind
  traceId: string
  parentId: string | undefined
  attributes: Record<string, string | number>
  done: (span: OtlpSpan) => void
}

class LiveSpan implements Span {
  readonly id = randomHex(8)
  readonly #life: Life
  readonly #startedAt = nanoseconds()
  #ended = false

  constructor(life: Life) {
    this.#life = life
  }

  get traceId(): string {
    return this.#life.traceId
  }

  join(traceId: string): void {
    if (this.#life.parentId === undefined) this.#life.traceId = traceId
  }

  set(attributes: Attributes): void {
    Object.assign(this.#life.attributes, attributes)
  }

  end(error?: unknown): void {
    if (this.#ended) return
    this.#ended = true
    const { name, kind, traceId, parentId, attributes, done } = this.#life
    if (error !== undefined) attributes['error.type'] = error instanceof Error ? error.name : 'unknown'
    done({
      traceId,
      spanId: this.id,
      ...(parentId === undefined ? {} : { parentSpanId: parentId }),
      name,
      kind: KINDS[kind],
      startTimeUnixNano: this.#startedAt,
      endTimeUnixNano: nanoseconds(),
      attributes: otlpAttributes(attributes),
      status: error === undefined ? {} : { code: ERROR },
    })
  }
}

/** Microseconds are as fine as a double can tell; as text, since JSON has no 64-bit integers. */
const nanoseconds = (): string => `${Math.round((performance.timeOrigin + performance.now()) * 1000)}000`
