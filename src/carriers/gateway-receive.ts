/**
 * A message that came in through the gateway: its media are downloaded and stored, then it becomes a message like any other.
 * The answer comes after that, and the same event or the same reference again gets the same answer, also when the message was
 * deleted since. What breaks off half way leaves nothing visible.
 */
import type { App } from '../app.ts'
import { cleanFilename, filenameFromUrl } from '../attachments/filename.ts'
import type { CompleteAttachment } from '../attachments/get.ts'
import { storeInbound } from '../attachments/inbound.ts'
import { discard } from '../attachments/keep.ts'
import { isHandle } from '../chats/open.ts'
import { isUniqueViolation } from '../db/schema.ts'
import { Failure } from '../failure.ts'
import { UPLOAD_LIMIT_BYTES } from '../media/types.ts'
import { ownerOfLine, type ReceivedMessage, receiveMessage } from '../messages/receive.ts'
import { findByCarrierRef, findIdempotencyKey, insertIdempotencyKey } from '../messages/rows.ts'
import { E164 } from '../phone-numbers/e164.ts'
import type { Remote } from '../remote/request.ts'
import { parseAt, type ReceivedEvent } from './gateway-wire.ts'

/** For all files together. The connection that waits for our answer would be cut after 60 s. */
const ALL_TIME_MS = 50_000
/** Whose idempotency keys these are: no partner's. */
const OWNER = 'gateway'

export type Reception = { event: ReceivedEvent; eventId: string; traceId: string }

/**
 * Failures: bad_parameter, bad_phone_number, phone_number_forbidden when `to` is no line of ours, bad_message when it is empty,
 * and for media download_failed and file_too_large.
 */
export async function receiveFromGateway(app: App, remote: Remote, o: Reception): Promise<ReceivedMessage> {
  const { event } = o
  const keys = [`event ${o.eventId}`, `ref ${event.carrier_ref}`]
  const known = await recall(app, keys, event.carrier_ref)
  if (known) return known
  const now = app.clock.now()
  const sentAt = parseAt(event.at, now)
  checkHandles(event)
  const partnerId = await ownerOfLine(app, event.to)
  const files = await fetchMedia(app, remote, partnerId, event.media ?? [])
  const received = await receiveMessage(app, {
    from: event.from,
    to: event.to,
    others: event.others ?? [],
    text: event.text,
    files,
    service: event.service ?? 'iMessage',
    sentAt,
    carrierRef: event.carrier_ref,
    traceId: o.traceId,
  })
  await remember(app, keys, received)
  return received
}

/** The keys outlive the message; the message's own reference covers a crash between storing it and storing them. */
async function recall(app: App, keys: readonly string[], carrierRef: string): Promise<ReceivedMessage | undefined> {
  for (const key of keys) {
    const row = await findIdempotencyKey(app.db, OWNER, key)
    if (row) return JSON.parse(row.response)
  }
  const message = await findByCarrierRef(app.db, 'inbound', carrierRef)
  return message && { chatId: message.chat_id, messageId: message.id }
}

async function remember(app: App, keys: readonly string[], received: ReceivedMessage): Promise<void> {
  const row = { partner_id: OWNER, message_id: received.messageId, status: 202, created_at: app.clock.now() }
  for (const key of keys) {
    try {
      await insertIdempotencyKey(app.db, { ...row, key, response: JSON.stringify(received) })
    } catch (error) {
      if (!isUniqueViolation(error)) throw error
    }
  }
}

function checkHandles({ from, to, others = [] }: ReceivedEvent): void {
  if (!E164.test(to)) throw new Failure('bad_phone_number', 'to must be a phone number in E.164 format')
  for (const [name, handle] of [['from', from], ...others.map((other, index) => [`others[${index}]`, other])]) {
    if (isHandle(handle ?? '')) continue
    throw new Failure('bad_phone_number', `${name} must be a phone number in E.164 format or an e-mail address`)
  }
}

type Media = NonNullable<ReceivedEvent['media']>[number]

/** All or nothing, side by side, in the order given. */
async function fetchMedia(
  app: App,
  remote: Remote,
  partnerId: string,
  media: readonly Media[],
): Promise<CompleteAttachment[]> {
  const named = media.map((file, index) => ({ ...file, field: `media[${index}]`, filename: nameOf(file, index) }))
  const stop = new AbortController()
  const timer = setTimeout(() => stop.abort(tooSlow()), ALL_TIME_MS)
  const results = await Promise.allSettled(
    named.map(async ({ url, field, filename }) => {
      try {
        const { body } = await remote.download(url, {
          field: `${field}.url`,
          maxBytes: UPLOAD_LIMIT_BYTES,
          timeoutMs: ALL_TIME_MS,
          signal: stop.signal,
        })
        let broken: unknown
        body.once('error', (error) => {
          broken = error
        })
        try {
          return await storeInbound(app, { partnerId, filename, body, signal: stop.signal })
        } catch (error) {
          throw broken ?? error
        } finally {
          body.destroy()
        }
      } catch (error) {
        stop.abort(error)
        throw error
      }
    }),
  )
  clearTimeout(timer)
  const files = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  if (files.length === media.length) return files
  await discard(app, files)
  throw stop.signal.reason
}

function nameOf({ url, filename }: Media, index: number): string {
  if (filename === undefined) return filenameFromUrl(url, 'bin')
  try {
    return cleanFilename(filename)
  } catch (error) {
    throw error instanceof Failure ? new Failure(error.failure, `media[${index}].${error.message}`) : error
  }
}

const tooSlow = () => new Failure('download_failed', `media took longer than ${ALL_TIME_MS / 1000} s to download`)
