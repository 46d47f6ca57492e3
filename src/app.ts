/** What an operation may use. Data, not a class: an operation that needs less asks for Pick<App, 'db' | 'clock'>. */
import type { DirectUploads } from './attachments/settle.ts'
import type { Carrier } from './carriers/carrier.ts'
import type { Sandbox } from './carriers/sandbox/sandbox.ts'
import type { Purge } from './cdn/purge.ts'
import type { Clock } from './clock.ts'
import type { Db } from './db/schema.ts'
import type { NewId } from './ids.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { EgressAllow } from './remote/address.ts'
import type { Remote } from './remote/request.ts'
import type { SigningKey } from './sigv4.ts'
import type { Storage } from './storage/storage.ts'
import type { Tracer } from './telemetry/tracer.ts'

export type App = {
  /** Filled in when the ports are open, since a port may be "any free one". No slash at the end. */
  readonly urls: { api: string; cdn: string }
  readonly db: Db
  readonly storage: Storage
  /** Uploads that bypass us; only a bucket can take them. */
  readonly direct: DirectUploads | undefined
  /** Tells the CDN before us what it must forget; undefined: nobody asked for it. */
  readonly purge: Purge | undefined
  /** A folder for files that live as long as one request. */
  readonly spoolFolder: string
  readonly carrier: Carrier
  /** Faults and a movable clock; only where the sandbox is the carrier. */
  readonly sandbox: Sandbox | undefined
  readonly remote: Remote
  /** What outgoing calls may reach although it is not public. */
  readonly egressAllow: EgressAllow
  /** Signs upload URLs. */
  readonly signingKey: SigningKey
  readonly clock: Clock
  readonly newId: NewId
  readonly log: Log
  readonly metrics: Metrics
  readonly tracer: Tracer
}
