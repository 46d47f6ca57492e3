/**
 * Composition: configuration in, a running server and worker out. The only importer of backends; whatever fails on the way
 * up is taken down again, so nothing is ever half started.
 */
import { chmod, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { App } from './app.ts'
import { attachmentRoutes } from './attachments/routes.ts'
import { createGatewayRemote, type Gateway, openGateway } from './carriers/gateway.ts'
import { gatewayRoutes } from './carriers/gateway-routes.ts'
import { movableClock, pullBackStrays } from './carriers/sandbox/clock.ts'
import { deliveryRoutes } from './carriers/sandbox/deliveries.ts'
import { eventRoutes } from './carriers/sandbox/events.ts'
import { Faults } from './carriers/sandbox/faults.ts'
import { openSandbox } from './carriers/sandbox/phone.ts'
import { sandboxRoutes } from './carriers/sandbox/routes.ts'
import { carryOut } from './carriers/sandbox/steps.ts'
import { cdnRoutes } from './cdn/routes.ts'
import { chatRoutes } from './chats/routes.ts'
import { chatSchemas } from './chats/wire.ts'
import { systemClock } from './clock.ts'
import { type Config, ConfigError } from './config.ts'
import type { Opened } from './db/schema.ts'
import { lockFile, openSqlite } from './db/sqlite.ts'
import { createApi } from './http/api.ts'
import { createEdge } from './http/edge.ts'
import { randomHex, uuidv7 } from './ids.ts'
import { countJobs, releaseAll } from './jobs/jobs.ts'
import { type Handlers, startWorker } from './jobs/worker.ts'
import { type Log, openLog } from './log.ts'
import { deliverMessage } from './messages/deliver.ts'
import { messageRoutes } from './messages/routes.ts'
import { messageSchemas } from './messages/wire.ts'
import { openMetrics } from './metrics.ts'
import { ensurePartner, freeSandboxNumbers, newApiKey, PhoneNumberTaken, phoneNumbersOf } from './partners/create.ts'
import { phoneNumberRoutes } from './phone-numbers/routes.ts'
import { describe } from './remote/address.ts'
import { createRemote } from './remote/request.ts'
import { openDisk } from './storage/disk.ts'
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
  readonly urls: { api: string; cdn: string }
  readonly apiKey: string
  readonly phoneNumbers: readonly string[]
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

/** Puts what it opens onto `open`, to be closed in the reverse order. */
async function start(config: Config, open: Close[]): Promise<Omit<Satchel, 'stop'>> {
  const log = openLog(config.logLevel)
  const lock = await usable('SATCHEL_DATA_DIR', async () => lockFile(join(config.dataDir, 'satchel.lock')))
  if (!lock) throw new ConfigError([`SATCHEL_DATA_DIR: another Satchel is running on ${config.dataDir}.`])
  open.push(() => lock[Symbol.dispose]())
  const opened = await usable('SATCHEL_DATABASE_URL', () => openSqlite(config.databasePath))
  open.push(() => opened[Symbol.asyncDispose]())
  if (dirname(config.databasePath) !== config.dataDir) {
    // Two data folders may name one database; its jobs are for one worker.
    const other = await usable('SATCHEL_DATABASE_URL', async () => lockFile(`${config.databasePath}.lock`))
    if (!other) throw new ConfigError([`SATCHEL_DATABASE_URL: another Satchel is running on ${config.databasePath}.`])
    open.push(() => other[Symbol.dispose]())
  }
  await releaseAll(opened.db)
  await releaseDeliveries(opened.db)

  const { egressAllow: allow } = config
  const gateway = config.gateway && {
    ...config.gateway,
    remote: createGatewayRemote({ url: config.gateway.url, allow, userAgent: USER_AGENT }),
  }
  if (gateway) open.push(() => gateway.remote[Symbol.asyncDispose]())
  const app = await createApp(config, opened, log, gateway)
  open.push(() => app.remote[Symbol.asyncDispose]())
  const { apiKey, phoneNumbers } = await ensureFirstPartner(app, config)

  const edge = await createEdge(app, [uploadRoutes(app), cdnRoutes(app)])
  open.push(() => closeServer(edge))
  const cdnUrl = await listen(edge, config.host, config.cdnPort, 'SATCHEL_CDN_PORT')
  app.urls.cdn = config.cdnUrl ?? cdnUrl
  const api = await createApi(app, {
    routes: [attachmentRoutes(app), chatRoutes(app), messageRoutes(app), phoneNumberRoutes(app), webhookRoutes(app)],
    apart: app.sandbox ? { '/sandbox': [sandboxRoutes(app, app.sandbox), deliveryRoutes(app), eventRoutes(app)] } : {},
    schemas: [...chatSchemas, ...messageSchemas, ...webhookSchemas],
    version: VERSION,
  })
  if (gateway) await api.register(gatewayRoutes(app, gateway))
  open.push(() => closeServer(api))
  const apiUrl = await listen(api, config.host, config.port, 'SATCHEL_PORT')
  app.urls.api = config.publicUrl ?? apiUrl

  if (app.sandbox) await pullBackStrays(app.db, app.clock.now())
  await planSweep(app)
  const worker = startWorker({ opened, clock: app.clock, log }, handlersFor(app, config))
  open.push(() => worker.stop())
  const dispatcher = startDispatcher(app, opened, { userAgent: USER_AGENT })
  open.push(() => dispatcher.stop())
  log.info(
    { egress_allow: describe(config.egressAllow) },
    'outgoing calls reach public addresses, and besides what is allowed',
  )
  const carrier = gateway ? 'gateway' : 'sandbox'
  log.info({ api: app.urls.api, cdn: app.urls.cdn, data: config.dataDir, carrier }, 'ready')
  return { urls: app.urls, apiKey, phoneNumbers }
}

async function createApp(config: Config, opened: Opened, log: Log, gateway: Gateway | undefined): Promise<App> {
  const movable = movableClock()
  const faults = new Faults()
  const sandbox = gateway ? undefined : { clock: movable, faults }
  const clock = gateway ? systemClock : movable
  const spoolFolder = join(config.dataDir, 'spool')
  await rm(spoolFolder, { recursive: true, force: true })
  await mkdir(spoolFolder, { recursive: true, mode: 0o700 })
  // The lock on the data folder makes what lies inside it ours alone; a folder elsewhere may be shared.
  const exclusive = config.storagePath.startsWith(`${config.dataDir}${sep}`)
  return {
    urls: { api: '', cdn: '' },
    db: opened.db,
    storage: await usable('SATCHEL_STORAGE_URL', () => openDisk(config.storagePath, { exclusive })),
    spoolFolder,
    carrier: gateway ? openGateway({ ...gateway, clock }) : openSandbox({ db: opened.db, clock }, faults),
    sandbox,
    egressAllow: config.egressAllow,
    remote: createRemote({ allow: config.egressAllow, userAgent: USER_AGENT }),
    signingKey: {
      accessKeyId: 'satchel',
      secretAccessKey: await keptSecret(join(config.dataDir, 'upload-signing-key'), async () => randomHex(32)),
      region: 'local',
    },
    clock,
    newId: uuidv7(clock, await newestEventTime(opened.db)),
    log,
    metrics: openMetrics({ jobs: () => countJobs(opened.db) }),
  }
}

function handlersFor(app: App, config: Config): Handlers {
  return {
    'message.send': ({ message_id }, attempt, signal) => deliverMessage(app, message_id, attempt, signal),
    'sandbox.report': (step) => carryOut(app, step),
    'bytes.delete': ({ storage_key }) => app.storage.delete(storage_key),
    'retention.sweep': () => sweepHistory(app, { keepMs: config.retentionDays * 86_400_000 }),
  }
}

/**
 * The partner that exists at start. What the configuration does not say is made once and kept: the key in a file of the
 * data folder, the numbers in the database.
 */
async function ensureFirstPartner(app: App, config: Config): Promise<{ apiKey: string; phoneNumbers: string[] }> {
  const apiKey = config.apiKey ?? (await keptSecret(join(config.dataDir, 'sandbox-api-key'), async () => newApiKey()))
  try {
    const id = await ensurePartner(app, { name: 'sandbox', apiKey, phoneNumbers: config.phoneNumbers })
    const known = await phoneNumbersOf(app.db, id)
    if (known.length > 0) return { apiKey, phoneNumbers: known }
    const phoneNumbers = await freeSandboxNumbers(app.db)
    await ensurePartner(app, { name: 'sandbox', apiKey, phoneNumbers })
    return { apiKey, phoneNumbers }
  } catch (error) {
    if (error instanceof PhoneNumberTaken) throw new ConfigError([`SATCHEL_PHONE_NUMBERS: ${error.message}.`])
    throw error
  }
}

/** A secret that is made at the first start and read at every later one; mode 0600, written whole or not at all. */
async function keptSecret(path: string, make: () => Promise<string>): Promise<string> {
  const known = await readFile(path, 'utf8').catch((error) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (known !== undefined) {
    if (known.trim() === '')
      throw new ConfigError([`SATCHEL_DATA_DIR: the secret in ${path} is empty; restore or remove it.`])
    await chmod(path, 0o600)
    return known.trim()
  }
  const secret = await make()
  const file = await open(`${path}.new`, 'w', 0o600)
  try {
    await file.writeFile(`${secret}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
  return secret
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
