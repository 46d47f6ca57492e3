/** Jobs as spans: what kind, and which attempt it is. A job that knows the request it came from joins that trace. */
import type { Handlers } from '../jobs/worker.ts'
import type { Tracer } from './tracer.ts'

type Handler = (payload: never, attempt: number, signal: AbortSignal) => Promise<void>

export function traceHandlers(handlers: Handlers, tracer: Tracer): Handlers {
  const traced = Object.entries<Handler>(handlers).map(([kind, handler]): [string, Handler] => [
    kind,
    (payload, attempt, signal) => {
      const about = { name: `job ${kind}`, kind: 'internal' as const, attributes: { 'satchel.attempt': attempt } }
      return tracer.trace(about, () => handler(payload, attempt, signal))
    },
  ])
  return Object.fromEntries(traced) as Handlers
}
