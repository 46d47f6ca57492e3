/** What a phone does to us: it sends a message with any number of files, and it reads what it got. */
import type { MultipartFile } from '@fastify/multipart'
import type { FastifyRequest } from 'fastify'
import type { App } from '../../app.ts'
import type { CompleteAttachment } from '../../attachments/get.ts'
import { storeInbound } from '../../attachments/inbound.ts'
import { discard } from '../../attachments/keep.ts'
import type { Service } from '../../db/schema.ts'
import { Failure } from '../../failure.ts'
import { reportDelivery } from '../../messages/deliver.ts'
import { type ReceivedMessage, receiveMessage } from '../../messages/receive.ts'
import { findMessage } from '../../messages/rows.ts'
import { findPhoneNumber } from '../../partners/rows.ts'
import { E164 } from '../../phone-numbers/e164.ts'
import { BodyTooLong } from '../../storage/storage.ts'

const FIELDS = ['from', 'to', 'text', 'service'] as const
const SERVICES: readonly Service[] = ['iMessage', 'SMS', 'RCS']
const TIME_LIMIT_MS = 120_000

type Form = { fields: Partial<Record<(typeof FIELDS)[number], string>>; files: CompleteAttachment[] }
type Caller = { partnerId: string; traceId: string }

/** Failures: missing_field, bad_phone_number, bad_parameter, phone_number_forbidden, file_too_large, bad_message. */
export async function receiveForm(app: App, request: FastifyRequest, caller: Caller): Promise<ReceivedMessage> {
  if (!request.isMultipart()) throw new Failure('bad_body', 'The body must be a multipart form, as curl -F sends')
  const form: Form = { fields: {}, files: [] }
  try {
    await readForm(app, request, caller.partnerId, form)
    const { from, to, text, service = 'iMessage' } = form.fields
    if (!from) throw new Failure('missing_field', 'Missing required field: from')
    if (!to) throw new Failure('missing_field', 'Missing required field: to')
    if (!E164.test(to)) throw new Failure('bad_phone_number', 'to must be a phone number in E.164 format')
    if (!isService(service)) throw new Failure('bad_parameter', `service must be one of ${SERVICES.join(', ')}`)
    if ((await findPhoneNumber(app.db, to))?.partner_id !== caller.partnerId) {
      throw new Failure('phone_number_forbidden', `to: ${to} is not a line of yours`)
    }
    const message = { from, to, text, service, sentAt: app.clock.now(), carrierRef: null, traceId: caller.traceId }
    const files = form.files.splice(0) // from here on they are receiveMessage's to keep or to discard
    return await receiveMessage(app, { ...message, files })
  } catch (error) {
    await discard(app, form.files)
    throw error
  }
}

async function readForm(app: App, request: FastifyRequest, partnerId: string, form: Form): Promise<void> {
  const signal = AbortSignal.timeout(TIME_LIMIT_MS)
  try {
    for await (const part of request.parts()) {
      if (part.type === 'file') form.files.push(await storeFile(app, part, partnerId, signal))
      else {
        const name = FIELDS.find((field) => field === part.fieldname)
        if (!name) throw new Failure('bad_parameter', `"${part.fieldname.slice(0, 50)}" is not a field of this form`)
        form.fields[name] = checkText(name, String(part.value))
      }
    }
  } catch (error) {
    if (error instanceof Failure) throw error
    if (error instanceof BodyTooLong)
      throw new Failure('file_too_large', 'media: a file may have 100 MB', { cause: error })
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (code.startsWith('FST_') || code === '') throw new Failure('bad_body', 'The form is not valid', { cause: error })
    throw error
  }
}

async function storeFile(
  app: App,
  part: MultipartFile,
  partnerId: string,
  signal: AbortSignal,
): Promise<CompleteAttachment> {
  if (part.fieldname !== 'media')
    throw new Failure('bad_parameter', `files go into the field media, not ${part.fieldname.slice(0, 50)}`)
  return await storeInbound(app, { partnerId, filename: part.filename || 'attachment', body: part.file, signal })
}

function checkText(name: string, value: string): string {
  if (!value.isWellFormed() || value.includes('\0'))
    throw new Failure('bad_parameter', `${name} holds a character that cannot be kept`)
  if (value.length > 10_000) throw new Failure('bad_message', `${name} must have at most 10000 characters`)
  return value
}

const isService = (name: string): name is Service => SERVICES.some((known) => known === name)

/** Failures: message_not_found, conflict when it is not one that a phone could have read by now. */
export async function readMessage(app: App, partnerId: string, id: string): Promise<void> {
  const message = await findMessage(app.db, partnerId, id)
  if (!message) throw new Failure('message_not_found')
  if (message.direction !== 'outbound' || message.carrier_ref === null) {
    throw new Failure('conflict', 'Only a message that has reached the phone can be read')
  }
  await reportDelivery(app, { type: 'read', carrierRef: message.carrier_ref, at: app.clock.now() })
}
