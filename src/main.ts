/**
 * Composition: configuration in, a running server and worker out. The only importer of backends; whatever fails on the way
 * up is taken down again, so nothing is ever half started.
 */
import { mkdir, rm } from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { App } from './app.ts'
import { vanish } from './attachments/ephemeral.ts'
import { attachmentRoutes } from './attachments/routes.ts'
import { settleAtEnd } from './attachments/settle.ts'
import { createGatewayRemote, type Gateway, openGateway } from './carriers/gateway.ts'
import { gatewayRoutes } from './carriers/gateway-routes.ts'
import { movableClock, pullBackStrays } from './carriers/sandbox/clock.ts'
import { deliveryRoutes } from './carriers/sandbox/deliveries.ts'
import { eventRoutes } from './carriers/sandbox/events.ts'
import { Faults } from './carriers/sandbox/faults.ts'
import { openSandbox } from './carriers/sandbox/phone.ts'
import { sandboxRoutes } from './carriers/sandbox/routes.ts'
import { carryOut } from './carriers/sandbox/steps.ts'
import { openPurge } from './cdn/purge.ts'
import { cdnRoutes } from './cdn/routes.ts'
import { chatRoutes } from './chats/routes.ts'
import { chatSchemas } from './chats/wire.ts'
import { systemClock } from './clock.ts'
import type { Role } from './config/roles.ts'
import { type Config, ConfigError } from './config.ts'
import type { Opened } from './db/schema.ts'
import { lockFile, lockOfDatabase, lockOfFolder } from './db/sqlite.ts'
import { Failure } from './failure.ts'
import { createApi } from './http/api.ts'
import { createEdge } from './http/edge.ts'
import { createHealth } from './http/health.ts'
import { randomHex, uuidv7 } from './ids.ts'
import { countJobs, releaseJobs } from './jobs/jobs.ts'
import { type Handlers, startWorker } from './jobs/worker.ts'
import { type Log, openLog } from './log.ts'
import { deliverMessage } from './messages/deliver.ts'
import { messageRoutes } from './messages/routes.ts'
import { messageSchemas } from './messages/wire.ts'
import { openMetrics } from './metrics.ts'
import { isPostgres, isS3, openBucket, openDatabase, openStorage } from './open.ts'
import { ensureLines, ensurePartner, newApiKey, PhoneNumberTaken } from './partners/create.ts'
import { phoneNumberRoutes } from './phone-numbers/routes.ts'
import { describe } from './remote/address.ts'
import { createRemote } from './remote/request.ts'
import { type Secrets, secretsInDatabase, secretsInFolder } from './secrets.ts'
import { tidyStorage } from './sweep/tidy.ts'
import { traceHandlers } from './telemetry/handlers.ts'
import { traceRemote } from './telemetry/remote.ts'
import { noTracer, openTracer, type Tracer } from './telemetry/tracer.ts'
import { uploadRoutes } from './uploads/routes.ts'
import { VERSION } from './version.ts'
import { startDispatcher } from './webhooks/deliver.ts'
import { planSweep, sweepHistory } from './webhooks/retention.ts'
import { webhookRoutes } from './webhooks/routes.ts'
import { newestEventTime, releaseDeliveries } from './webhooks/rows.ts'
import { webhookSchemas } from './webhooks/wire.ts'

const USER_AGENT = `Satchel/${VERSION}`

/** How long the requests under way may still take once the server was told to stop. */
const GRACE_MS = 60_000

export type Satchel = {
  readonly roles: readonly Role[]
  /** `api` is the port of health and metrics where the role api is not among them. */
  readonly urls: { api: string; cdn: string }
  /** undefined without the role api: callers have no business here. */
  readonly partner: FirstPartner | undefined
  /** Takes nothing new, finishes what is under way, closes everything. */
  stop(): Promise<void>
}

/** Rejects with ConfigError when the configuration cannot work here: a port in use, a folder that is not ours. */
export async function startSatchel(config: Config): Promise<Satchel> {
  const open: Close[] = []
  const stop = async () => {
    for (let close = open.pop(); close; close = open.pop()) await close()
  }
  try {
    return { ...(await start(config, open)), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

type Close = () => unknown
type FirstPartner = { readonly apiKey: string; readonly phoneNumbers: readonly string[] }

/** Puts what it opens onto `open`, to be closed in the reverse order. */
async function start(config: Config, open: Close[]): Promise<Omit<Satchel, 'stop'>> {
  const log = openLog(config.logLevel)
  const isMine = await takeFolder(config, open)
  const opened = await usable('SATCHEL_DATABASE_URL', () =>
    openDatabase(config.databaseUrl, { poolSize: config.databasePool }),
  )
  open.push(() => opened[Symbol.asyncDispose]())
  await takeDatabase(config, open)
  const kept = secretsInFolder(config.dataDir)
  const secrets = opened.skipLocked ? secretsInDatabase(opened.db, systemClock) : kept
  const node = isMine ? await kept('node-id', () => randomHex(8)) : randomHex(8)
  // With SQLite there is no other node: whoever had a lease is gone.
  const gone = opened.skipLocked ? node : 'any'
  await releaseJobs(opened.db, gone)
  await releaseDeliveries(opened.db, gone)

  const { egressAllow: allow, roles } = config
  const tracer = config.otlpUrl ? openTracer({ url: config.otlpUrl, version: VERSION, log }) : noTracer
  open.push(() => tracer.stop())
  const gateway = config.gateway && {
    ...config.gateway,
    remote: traceRemote(createGatewayRemote({ url: config.gateway.url, allow, userAgent: USER_AGENT }), tracer),
  }
  if (gateway) open.push(() => gateway.remote[Symbol.asyncDispose]())
  const files = await openFiles(config, log, { exclusive: isMine })
  open.push(() => files.close())
  const spoolFolder = await openSpool(config, isMine ? undefined : node, open)
  const app = await createApp(config, { opened, secrets, log, gateway, tracer, files, spoolFolder })
  open.push(() => app.remote[Symbol.asyncDispose]())
  const partner = roles.includes('api') ? await ensureFirstPartner(app, config, secrets) : undefined

  if (roles.includes('edge')) {
    const edge = await createEdge(app, [uploadRoutes(app), cdnRoutes(app)])
    open.push(() => closeServer(edge))
    app.urls.cdn = await listen(edge, config.host, config.cdnPort, 'SATCHEL_CDN_PORT')
  }
  app.urls.cdn = config.cdnUrl ?? app.urls.cdn
  const api = roles.includes('api') ? await createWholeApi(app, gateway) : await createHealth(app)
  open.push(() => closeServer(api))
  const apiUrl = await listen(api, config.host, config.port, 'SATCHEL_PORT')
  app.urls.api = config.publicUrl ?? apiUrl

  if (roles.includes('worker')) {
    if (app.sandbox) await pullBackStrays(app.db, app.clock.now())
    await planSweep(app)
    const worker = startWorker({ opened, node, clock: app.clock, log }, traceHandlers(handlersFor(app, config), tracer))
    open.push(() => worker.stop())
    const dispatcher = startDispatcher(app, opened, { userAgent: USER_AGENT, node })
    open.push(() => dispatcher.stop())
  }
  log.info(
    { egress_allow: describe(config.egressAllow) },
    'outgoing calls reach public addresses, and besides what is allowed',
  )
  const carrier = gateway ? 'gateway' : 'sandbox'
  log.info({ roles, api: app.urls.api, cdn: app.urls.cdn, data: config.dataDir, carrier }, 'ready')
  return { roles, urls: app.urls, partner }
}

/**
 * True when no other process has the data folder: whoever had it before us is gone. With SQLite there must be no other; with
 * PostgreSQL the folder only says which node this is.
 */
async function takeFolder(config: Config, open: Close[]): Promise<boolean> {
  const lock = await usable('SATCHEL_DATA_DIR', async () => lockFile(lockOfFolder(config.dataDir)))
  if (lock) open.push(() => lock[Symbol.dispose]())
  else if (!isPostgres(config.databaseUrl)) {
    throw new ConfigError([`SATCHEL_DATA_DIR: another Satchel is running on ${config.dataDir}.`])
  }
  return lock !== undefined
}

/** Two data folders may name one SQLite file; its jobs are for one worker. */
async function takeDatabase({ databaseUrl, dataDir }: Config, open: Close[]): Promise<void> {
  const path = databaseUrl.replace(/^sqlite:/, '')
  if (isPostgres(databaseUrl) || dirname(path) === dataDir) return
  const lock = await usable('SATCHEL_DATABASE_URL', async () => lockFile(lockOfDatabase(path)))
  if (!lock) throw new ConfigError([`SATCHEL_DATABASE_URL: another Satchel is running on ${path}.`])
  open.push(() => lock[Symbol.dispose]())
}

async function createWholeApi(app: App, gateway: Gateway | undefined): Promise<FastifyInstance> {
  const api = await createApi(app, {
    routes: [attachmentRoutes(app), chatRoutes(app), messageRoutes(app), phoneNumberRoutes(app), webhookRoutes(app)],
    apart: app.sandbox ? { '/sandbox': [sandboxRoutes(app, app.sandbox), deliveryRoutes(app), eventRoutes(app)] } : {},
    schemas: [...chatSchemas, ...messageSchemas, ...webhookSchemas],
    version: VERSION,
  })
  if (gateway) await api.register(gatewayRoutes(app, gateway))
  return api
}

type Files = Pick<App, 'storage' | 'direct' | 'purge'> & { close: () => Promise<void> }

/** A bucket that cannot be reached now may be later; one that is not there, or not ours, is a mistake to mend first. */
async function openFiles(config: Config, log: Log, o: { exclusive: boolean }): Promise<Files> {
  const { storageUrl, s3Credentials: credentials, cdnPurgeUrl: url, egressAllow: allow } = config
  const purge = url === undefined ? undefined : openPurge({ url, allow, userAgent: USER_AGENT })
  const close = async () => purge?.[Symbol.asyncDispose]()
  if (!isS3(storageUrl)) {
    // The lock on the data folder makes what lies inside it ours alone; a folder elsewhere may be shared.
    const exclusive = o.exclusive && storageUrl.startsWith(`file:${config.dataDir}${sep}`)
    const storage = await usable('SATCHEL_STORAGE_URL', () => openStorage(storageUrl, { exclusive, credentials }))
    return {
      storage,
      direct: undefined,
      purge,
      async close() {
        await storage.small?.close()
        await close()
      },
    }
  }
  const s3 = await openBucket(storageUrl, credentials)
  await s3.check().catch((error) => {
    if (!(error instanceof Failure)) throw new ConfigError([`SATCHEL_STORAGE_URL: ${(error as Error).message}.`])
    log.warn({ err: error.cause }, 'the bucket cannot be reached')
  })
  const direct = { staging: s3.staging, offered: config.uploads === 'direct', settling: new Map() }
  return {
    storage: s3.storage,
    direct,
    purge,
    async close() {
      s3.close()
      await close()
    },
  }
}

/** Emptied of what a process that is gone left there. One that shares the data folder (`guest`) has a folder of its own. */
async function openSpool({ dataDir }: Config, guest: string | undefined, open: Close[]): Promise<string> {
  const folder = join(dataDir, guest === undefined ? 'spool' : `spool-${guest}`)
  const empty = () => rm(folder, { recursive: true, force: true })
  await empty()
  await mkdir(folder, { recursive: true, mode: 0o700 })
  if (guest !== undefined) open.push(empty)
  return folder
}

type Parts = {
  opened: Opened
  secrets: Secrets
  log: Log
  gateway: Gateway | undefined
  tracer: Tracer
  files: Files
  spoolFolder: string
}

async function createApp(config: Config, parts: Parts): Promise<App> {
  const { opened, secrets, log, gateway, tracer, files, spoolFolder } = parts
  const movable = movableClock()
  const faults = new Faults()
  const sandbox = gateway ? undefined : { clock: movable, faults }
  const clock = gateway ? systemClock : movable
  return {
    urls: { api: '', cdn: '' },
    db: opened.db,
    storage: files.storage,
    direct: files.direct,
    purge: files.purge,
    spoolFolder,
    carrier: gateway ? openGateway({ ...gateway, clock }) : openSandbox({ db: opened.db, clock }, faults),
    sandbox,
    egressAllow: config.egressAllow,
    remote: traceRemote(createRemote({ allow: config.egressAllow, userAgent: USER_AGENT }), tracer),
    signingKey: {
      accessKeyId: 'satchel',
      secretAccessKey: await secrets('upload-signing-key', () => randomHex(32)),
      region: 'local',
    },
    clock,
    newId: uuidv7(clock, await newestEventTime(opened.db)),
    log,
    tracer,
    metrics: openMetrics({ jobs: () => countJobs(opened.db) }),
  }
}

function handlersFor(app: App, config: Config): Handlers {
  return {
    'message.send': ({ message_id }, attempt, signal) => deliverMessage(app, message_id, attempt, signal),
    'sandbox.report': (step) => carryOut(app, step),
    'bytes.delete': ({ storage_key }) => app.storage.delete(storage_key),
    'upload.settle': (what) => settleAtEnd(app, what),
    'cdn.purge': async ({ urls }, _, signal) => app.purge?.(urls, signal),
    'attachment.vanish': ({ attachment_id }) => vanish(app, attachment_id),
    'retention.sweep': async (_, __, signal) => {
      await sweepHistory(app, { keepMs: config.retentionDays * 86_400_000 })
      await tidyStorage(app, signal)
    },
  }
}

/** The partner that exists at start. What the configuration does not say of it is made once and kept. */
async function ensureFirstPartner(app: App, config: Config, secrets: Secrets): Promise<FirstPartner> {
  const apiKey = config.apiKey ?? (await secrets('sandbox-api-key', newApiKey))
  try {
    const id = await ensurePartner(app, { name: 'sandbox', apiKey, phoneNumbers: config.phoneNumbers })
    return { apiKey, phoneNumbers: await ensureLines(app, id) }
  } catch (error) {
    if (error instanceof PhoneNumberTaken) throw new ConfigError([`SATCHEL_PHONE_NUMBERS: ${error.message}.`])
    throw error
  }
}

async function listen(server: FastifyInstance, host: string, port: number, variable: string): Promise<string> {
  try {
    await server.listen({ host, port })
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    const reasons: Record<string, string> = {
      EADDRINUSE: `${variable}: port ${port} is in use on ${host}; stop what uses it or set another.`,
      EACCES: `${variable}: port ${port} may not be opened by this user.`,
      EADDRNOTAVAIL: `SATCHEL_HOST: ${host} is not an address of this machine.`,
      ENOTFOUND: `SATCHEL_HOST: ${host} is not known.`,
    }
    const reason = typeof code === 'string' ? reasons[code] : undefined
    throw reason ? new ConfigError([reason]) : error
  }
  const address = server.server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  const shown = host.includes(':') ? `[${host}]` : host
  return `http://${shown}:${address.port}`
}

/** Stops listening, lets requests finish, and after the grace time cuts off those that do not. */
async function closeServer(server: FastifyInstance): Promise<void> {
  const timer = setTimeout(() => server.server.closeAllConnections(), GRACE_MS)
  await server.close()
  clearTimeout(timer)
}

/** Says which variable a folder or file that cannot be used came from. */
async function usable<T>(variable: string, open: () => Promise<T>): Promise<T> {
  try {
    return await open()
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (/^E[A-Z]+$|^ERR_SQLITE/.test(code)) throw new ConfigError([`${variable}: ${(error as Error).message}.`])
    throw error
  }
}
