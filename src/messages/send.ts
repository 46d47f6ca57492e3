/** The three ways to send: into a chat, to recipients (which finds or makes the chat), and as a voice memo. */
import type { Static } from 'typebox'
import type { App } from '../app.ts'
import { holdSendable } from '../attachments/get.ts'
import { discard } from '../attachments/keep.ts'
import { linkTo } from '../attachments/links.ts'
import { checkParticipants, findOrCreateChat, findReusableChat, getOpenChat } from '../chats/open.ts'
import type { Chat } from '../chats/rows.ts'
import type { Db } from '../db/schema.ts'
import { CommitUnknown, inTransaction } from '../db/transaction.ts'
import { Failure } from '../failure.ts'
import { findDeclaredType, supportedNames } from '../media/types.ts'
import { acceptMessage, chooseService } from './accept.ts'
import { announceChat } from './announce.ts'
import { checkContent, checkFirstMessage } from './content.ts'
import { type Answer, once } from './idempotency.ts'
import { fetchAll, findSource, type Resolved, resolveParts } from './resolve-parts.ts'
import { hasMessage } from './rows.ts'
import {
  type AcceptedMessage,
  type AcceptedVoiceMemo,
  type CreatedChat,
  createdChatJson,
  type MessageContent,
  sentMessageJson,
  voiceMemoJson,
} from './wire.ts'

type Caller = { partnerId: string; traceId: string }
/** One of the two, whichever was asked for: a repeated idempotency key is answered as it was the first time. */
type SendAnswer = Answer<Static<typeof CreatedChat> | Static<typeof AcceptedMessage>>

/** Failures: chat_not_found, chat_unavailable, message_not_found, and those of the content and its parts. */
export async function sendMessage(
  app: App,
  o: Caller & { chatId: string; content: MessageContent },
): Promise<SendAnswer> {
  return await once(app, { partnerId: o.partnerId, key: o.content.idempotency_key }, async (remember) => {
    const chat = await getOpenChat(app, o.partnerId, o.chatId)
    checkContent(o.content)
    await checkReply(app, chat, o.content)
    const resolved = await resolveParts(app, o.partnerId, o.content.parts)
    return await store(app, resolved, async (tx) => {
      const message = await acceptMessage(tx, app, { ...o, chat, resolved, now: app.clock.now() })
      const body = { chat_id: chat.id, message: sentMessageJson(message, chat, linkTo(app)) }
      const answer = { status: 202 as const, body }
      await remember(tx, message.id, answer)
      return answer
    })
  })
}

/** The chat that this line has with exactly these recipients, or a new one; 201 either way. */
export async function createChat(
  app: App,
  o: Caller & { from: string; to: readonly string[]; content: MessageContent },
): Promise<SendAnswer> {
  return await once(app, { partnerId: o.partnerId, key: o.content.idempotency_key }, async (remember) => {
    const who = await checkParticipants(app, o)
    checkContent(o.content)
    const known = await findReusableChat(app.db, who)
    if (!known) checkFirstMessage(o.content)
    await checkReply(app, known, o.content)
    const resolved = await resolveParts(app, o.partnerId, o.content.parts)
    return await store(app, resolved, async (tx) => {
      const now = app.clock.now()
      const service = chooseService(o.content.preferred_service)
      const { chat, isNew } = await findOrCreateChat(tx, app, who, { service, now })
      if (isNew) await announceChat(tx, app, chat, o.traceId)
      const message = await acceptMessage(tx, app, { ...o, chat, resolved, now })
      const answer = { status: 201 as const, body: createdChatJson(chat, message, linkTo(app)) }
      await remember(tx, message.id, answer)
      return answer
    })
  })
}

/** One audio file, by URL or by id. Failures besides those of a send: bad_file_type when it is not audio. */
export async function sendVoiceMemo(
  app: App,
  o: Caller & { chatId: string; voice_memo_url: string | undefined; attachment_id: string | undefined },
): Promise<Static<typeof AcceptedVoiceMemo>> {
  const chat = await getOpenChat(app, o.partnerId, o.chatId)
  const resolved = await resolveVoiceMemo(app, o)
  return await store(app, resolved, async (tx) => {
    const message = await acceptMessage(tx, app, { ...o, chat, resolved, content: {}, now: app.clock.now() })
    return voiceMemoJson(chat, message, linkTo(app))
  })
}

async function resolveVoiceMemo(
  app: App,
  o: { partnerId: string; voice_memo_url: string | undefined; attachment_id: string | undefined },
): Promise<Resolved> {
  const { voice_memo_url: url, attachment_id } = o
  if (url === undefined && attachment_id === undefined) {
    throw new Failure('missing_field', 'Missing required field: voice_memo_url or attachment_id')
  }
  if (url !== undefined && attachment_id !== undefined) {
    throw new Failure('bad_parameter', 'voice_memo_url and attachment_id must not both be set')
  }
  const media = { ...(url === undefined ? {} : { url }), ...(attachment_id === undefined ? {} : { attachment_id }) }
  const names = { url: 'voice_memo_url', attachment_id: 'attachment_id' }
  const source = await findSource(app, o.partnerId, media, names)
  const fetched = source.type === 'url' ? await fetchAll(app, o.partnerId, [source]) : []
  const attachment = source.type === 'url' ? fetched[0] : source.attachment
  if (attachment && findDeclaredType(attachment.content_type)?.kind !== 'audio') {
    await discard(app, fetched)
    const message = `A voice memo must be audio, and this is ${attachment.content_type}. Send ${supportedNames('audio')}.`
    throw new Failure('bad_file_type', message)
  }
  return { parts: attachment ? [{ type: 'media', attachment }] : [], fetched }
}

/** What is answered to must be in the chat; a new chat has nothing to answer to. */
async function checkReply(app: App, chat: Chat | undefined, content: MessageContent): Promise<void> {
  const id = content.reply_to?.message_id.toLowerCase()
  if (id === undefined) return
  if (!chat || !(await hasMessage(app.db, { chatId: chat.id, id }))) {
    throw new Failure('message_not_found', 'message.reply_to.message_id is not a message of this chat')
  }
}

/**
 * One transaction for a message and all that belongs to it. The attachments are looked up again in it, and held until its end:
 * one that was deleted during a download must not be sent. What was downloaded is taken back when the message is not accepted;
 * when nobody knows whether it was, the bytes stay (`sweep` finds them).
 */
async function store<T>(app: App, resolved: Resolved, work: (tx: Db) => Promise<T>): Promise<T> {
  try {
    const fetched = new Set(resolved.fetched.map(({ id }) => id))
    const used = resolved.parts.flatMap((part) => (part.type === 'media' ? [part.attachment] : []))
    const known = used.filter(({ id }) => !fetched.has(id))
    const result = await inTransaction(app.db, async (tx) => {
      await holdSendable(tx, app, known)
      return await work(tx)
    })
    app.metrics.messages.inc()
    return result
  } catch (error) {
    if (!(error instanceof CommitUnknown)) await discard(app, resolved.fetched)
    throw error
  }
}
