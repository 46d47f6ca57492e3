/** Making, changing and ending webhook subscriptions. */
import { isIP } from 'node:net'
import type { Static } from 'typebox'
import type { App } from '../app.ts'
import { type Db, isUniqueViolation, type WebhookVersion } from '../db/schema.ts'
import { inTransaction } from '../db/transaction.ts'
import { Failure } from '../failure.ts'
import { listPhoneNumbers } from '../partners/rows.ts'
import { E164 } from '../phone-numbers/e164.ts'
import { bareHost, isAllowed, isHostAllowed, isPublic } from '../remote/address.ts'
import { EVENT_TYPES, SILENT_EVENT_TYPES, WEBHOOK_VERSIONS } from './events.ts'
import {
  cancelDeliveries,
  countSubscriptions,
  findOwnSubscription,
  insertSubscription,
  lockSubscription,
  removeSubscription,
  type SubscriptionRow,
  updateSubscription,
} from './rows.ts'
import { newSigningSecret } from './sign.ts'
import type { CreateSubscription, UpdateSubscription } from './wire.ts'

/** Each event is one row for each subscription that wants it. */
const MOST_SUBSCRIPTIONS = 2_000

/** Failures: bad_parameter, bad_phone_number, phone_number_forbidden, conflict for a target that is subscribed already. */
export async function createSubscription(
  app: App,
  partnerId: string,
  input: Static<typeof CreateSubscription>,
): Promise<SubscriptionRow> {
  const now = app.clock.now()
  const row: SubscriptionRow = {
    id: app.newId(),
    partner_id: partnerId,
    ...checkTarget(app, input.target_url),
    subscribed_events: checkEvents(input.subscribed_events),
    phone_numbers: await checkLines(app.db, partnerId, input.phone_numbers),
    is_active: 1,
    signing_secret: newSigningSecret(),
    old_secret: null,
    old_secret_until: null,
    failures: 0,
    open_until: 0,
    created_at: now,
    updated_at: now,
  }
  if ((await countSubscriptions(app.db, partnerId)) >= MOST_SUBSCRIPTIONS) {
    throw new Failure('conflict', `A partner may have ${MOST_SUBSCRIPTIONS} subscriptions`)
  }
  await onceByTarget(() => insertSubscription(app.db, row))
  return row
}

/** Absent fields keep their value. Failures besides those of creating: subscription_not_found. */
export async function changeSubscription(
  app: App,
  o: { partnerId: string; id: string; change: Static<typeof UpdateSubscription> },
): Promise<SubscriptionRow> {
  const { target_url, subscribed_events, phone_numbers, is_active } = o.change
  const lines = phone_numbers === undefined ? undefined : await checkLines(app.db, o.partnerId, phone_numbers)
  const now = app.clock.now()
  return await onceByTarget(() =>
    inTransaction(app.db, async (tx) => {
      const row = await takeSubscription(tx, o.partnerId, o.id)
      const target = target_url === undefined ? {} : checkTarget(app, target_url, row.webhook_version)
      const changed: SubscriptionRow = {
        ...row,
        ...target,
        ...(subscribed_events ? { subscribed_events: checkEvents(subscribed_events) } : {}),
        ...(lines === undefined ? {} : { phone_numbers: lines }),
        ...(is_active === undefined ? {} : { is_active: is_active ? 1 : 0 }),
        // A new address or a new start deserves a closed circuit.
        ...(target_url !== undefined || is_active ? { failures: 0, open_until: 0 } : {}),
        updated_at: now,
      }
      await updateSubscription(tx, row.id, changed)
      if (is_active === false) await cancelDeliveries(tx, row.id, now, 'the subscription was switched off')
      return changed
    }),
  )
}

/** What is still owed is not sent any more. Failure subscription_not_found. */
export async function deleteSubscription(app: App, partnerId: string, id: string): Promise<void> {
  await inTransaction(app.db, async (tx) => {
    const row = await takeSubscription(tx, partnerId, id)
    await cancelDeliveries(tx, row.id, app.clock.now(), 'the subscription was deleted')
    await removeSubscription(tx, row.id)
  })
}

/** Failure subscription_not_found, for foreign ones too. */
export async function getSubscription(app: Pick<App, 'db'>, partnerId: string, id: string): Promise<SubscriptionRow> {
  const row = await findOwnSubscription(app.db, partnerId, id.toLowerCase())
  if (!row) throw new Failure('subscription_not_found')
  return row
}

/** The same for a transaction that changes it: everybody else waits. */
async function takeSubscription(tx: Db, partnerId: string, id: string): Promise<SubscriptionRow> {
  const row = await lockSubscription(tx, id.toLowerCase())
  if (row?.partner_id !== partnerId) throw new Failure('subscription_not_found')
  return row
}

/** A new secret; the old one signs as well for `overlapMs`, so that receivers can change over without losing a delivery. */
export async function rotateSecret(
  app: Pick<App, 'db' | 'clock'>,
  o: { id: string; overlapMs: number },
): Promise<string> {
  const secret = newSigningSecret()
  const now = app.clock.now()
  await app.db.transaction().execute(async (tx) => {
    const row = await lockSubscription(tx, o.id)
    if (!row) throw new Failure('subscription_not_found')
    const old = { old_secret: row.signing_secret, old_secret_until: now + o.overlapMs }
    await updateSubscription(tx, row.id, { signing_secret: secret, ...old, updated_at: now })
  })
  return secret
}

/** Without `?version=` the newest; a changed URL keeps what the subscription has unless it names one. */
function checkTarget(
  app: Pick<App, 'egressAllow'>,
  target: string,
  current: WebhookVersion = '2026-02-03',
): { target_url: string; webhook_version: WebhookVersion } {
  const url = URL.parse(target)
  if (!url) throw new Failure('bad_parameter', 'target_url must be an absolute URL')
  if (url.username || url.password) throw new Failure('bad_parameter', 'target_url must not hold credentials')
  const host = bareHost(url.hostname)
  const port = Number(url.port || (url.protocol === 'https:' ? 443 : 80))
  const literal = isIP(host) !== 0
  const listed = literal
    ? isAllowed(app.egressAllow, { host, port, address: host })
    : isHostAllowed(app.egressAllow, { host, port })
  if (
    url.protocol !== 'https:' &&
    !(url.protocol === 'http:' && (listed || (!literal && app.egressAllow.networks.length > 0)))
  ) {
    throw new Failure('bad_parameter', 'target_url must be https')
  }
  const isLocalName = host === 'localhost' || /\.(localhost|local|internal)$/.test(host)
  const networksMayHold = !literal && app.egressAllow.networks.length > 0
  if (!listed && !networksMayHold && (isLocalName || (literal && !isPublic(host)))) {
    throw new Failure('bad_parameter', 'target_url must lead to a public address')
  }
  const asked = url.searchParams.get('version')
  const version = asked === null ? current : WEBHOOK_VERSIONS.find((known) => known === asked)
  if (!version) throw new Failure('bad_parameter', `target_url: version must be one of ${WEBHOOK_VERSIONS.join(', ')}`)
  return { target_url: target, webhook_version: version }
}

function checkEvents(names: readonly string[]): string {
  const known: readonly string[] = EVENT_TYPES
  const unknown = names.find((name) => !known.includes(name) && !SILENT_EVENT_TYPES.includes(name))
  if (unknown !== undefined) {
    throw new Failure('bad_parameter', `subscribed_events: "${unknown.slice(0, 100)}" is not an event type`)
  }
  return JSON.stringify([...new Set(names)])
}

/** null and [] both mean all lines. */
async function checkLines(db: Db, partnerId: string, numbers: readonly string[] | null | undefined) {
  if (!numbers || numbers.length === 0) return null
  const own = new Set((await listPhoneNumbers(db, partnerId)).map((line) => line.phone_number))
  numbers.forEach((number, index) => {
    if (!E164.test(number)) throw new Failure('bad_phone_number', `phone_numbers[${index}] must be in E.164 format`)
    if (!own.has(number)) throw new Failure('phone_number_forbidden', `phone_numbers[${index}] is not a line of yours`)
  })
  return JSON.stringify([...new Set(numbers)])
}

async function onceByTarget<T>(write: () => Promise<T>): Promise<T> {
  try {
    return await write()
  } catch (error) {
    if (!isUniqueViolation(error)) throw error
    throw new Failure('conflict', 'target_url is subscribed already', { cause: error })
  }
}
