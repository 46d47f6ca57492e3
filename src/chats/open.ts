/** Finds the chat that a line has with some recipients, or plans a new one. */
import type { App } from '../app.ts'
import type { Db, NewRow, Service } from '../db/schema.ts'
import { Failure } from '../failure.ts'
import { findPhoneNumber } from '../partners/rows.ts'
import { E164 } from '../phone-numbers/e164.ts'
import { type Chat, findChat, findChatByRecipients, type HandleRow, insertChat } from './rows.ts'

export const MOST_RECIPIENTS = 31
const EMAIL = /^[^\s@,]{1,64}@[^\s@,]{1,255}$/

export type Participants = { partnerId: string; phoneNumber: string; recipients: string[] }

/** Checks who sends and who receives. Failures: bad_phone_number, bad_parameter, phone_number_forbidden. */
export async function checkParticipants(
  app: Pick<App, 'db'>,
  o: { partnerId: string; from: string; to: readonly string[] },
): Promise<Participants> {
  if (!E164.test(o.from)) throw new Failure('bad_phone_number', 'from must be a phone number in E.164 format')
  o.to.forEach((handle, index) => {
    if (!isHandle(handle)) {
      throw new Failure('bad_phone_number', `to[${index}] must be a phone number in E.164 format or an e-mail address`)
    }
  })
  const line = await findPhoneNumber(app.db, o.from)
  if (line?.partner_id !== o.partnerId)
    throw new Failure('phone_number_forbidden', `from: ${o.from} is not a line of yours`)
  if (o.to.includes(o.from)) throw new Failure('bad_parameter', 'to must not name the line that sends')
  return { partnerId: o.partnerId, phoneNumber: o.from, recipients: dedupe(o.to) }
}

export const isHandle = (text: string): boolean => E164.test(text) || (EMAIL.test(text) && text.length <= 254)

export function findReusableChat(db: Db, who: Participants): Promise<Chat | undefined> {
  return findChatByRecipients(db, { ...who, recipientsKey: recipientsKey(who.recipients) })
}

/** The chat as it is, or made now, also when another node makes it. Call it in the transaction that stores its first message. */
export async function findOrCreateChat(
  tx: Db,
  app: Pick<App, 'newId'>,
  who: Participants,
  o: { service: Service; now: number },
): Promise<{ chat: Chat; isNew: boolean }> {
  const known = await findReusableChat(tx, who)
  if (known) return { chat: known, isNew: false }
  const row = {
    id: app.newId(),
    partner_id: who.partnerId,
    phone_number: who.phoneNumber,
    is_group: who.recipients.length > 1 ? 1 : 0,
    display_name: null,
    service: o.service,
    recipients_key: recipientsKey(who.recipients),
    health_status: 'HEALTHY',
    health_updated_at: o.now,
    left_at: null,
    created_at: o.now,
    updated_at: o.now,
  } satisfies NewRow<'chats'>
  const handles = [who.phoneNumber, ...who.recipients].map(
    (handle, position): HandleRow => ({
      id: app.newId(),
      chat_id: row.id,
      position,
      handle,
      service: o.service,
      status: 'active',
      is_me: position === 0 ? 1 : 0,
      joined_at: o.now,
      left_at: null,
    }),
  )
  if (await insertChat(tx, row, handles)) return { chat: { ...row, handles } as Chat, isNew: true }
  const other = await findReusableChat(tx, who)
  if (!other) throw new Failure('chat_being_created')
  return { chat: other, isNew: false }
}

/** Failures: chat_not_found, also for foreign ones; chat_unavailable when our line has left it. */
export async function getOpenChat(app: Pick<App, 'db'>, partnerId: string, id: string): Promise<Chat> {
  const chat = await getChat(app, partnerId, id)
  if (chat.left_at !== null) throw new Failure('chat_unavailable')
  return chat
}

/** Failure chat_not_found. */
export async function getChat(app: Pick<App, 'db'>, partnerId: string, id: string): Promise<Chat> {
  const chat = await findChat(app.db, partnerId, id.toLowerCase())
  if (!chat) throw new Failure('chat_not_found')
  return chat
}

/** Two spellings of one e-mail address are one recipient. */
export function dedupe(handles: readonly string[]): string[] {
  return [...new Map(handles.map((handle) => [handle.toLowerCase(), handle])).values()]
}

const recipientsKey = (recipients: readonly string[]): string =>
  recipients
    .map((handle) => handle.toLowerCase())
    .sort()
    .join(',')
