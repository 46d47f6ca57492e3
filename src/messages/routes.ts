/** Sending, reading and deleting messages; creating a chat is a send as well (contract 4.2 to 4.5, 4.8). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { App } from '../app.ts'
import { PageQuery, parsePage } from '../http/page.ts'
import { ERRORS, Ref, Uuid } from '../http/schemas.ts'
import { deleteMessage, getMessage, listChatMessages } from './read.ts'
import { createChat, sendMessage, sendVoiceMemo } from './send.ts'
import {
  AcceptedMessage,
  AcceptedVoiceMemo,
  CreateChat,
  CreatedChat,
  type MessageJson,
  Messages,
  SendMessage,
  SendVoiceMemo,
} from './wire.ts'

const ChatParams = Type.Object({ chatId: Uuid })
const MessageParams = Type.Object({ messageId: Uuid })
const DEFAULT_PAGE = 50
const tags = ['Messages']
/** An idempotency key counts for both calls, and a repeat is answered as it was the first time. */
const SENT = { 201: CreatedChat, 202: AcceptedMessage }

export function messageRoutes(app: App): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.post(
      '/chats',
      {
        schema: {
          tags: ['Chats'],
          summary: 'Send a first message, or one more',
          description: 'Finds the chat of this line with exactly these recipients, or makes it.',
          body: CreateChat,
          response: { ...SENT, ...ERRORS },
        },
      },
      async (request, reply) => {
        const { from, to, message: content } = request.body
        const caller = { partnerId: request.partnerId, traceId: request.id }
        const { status, body } = await createChat(app, { ...caller, from, to, content })
        return reply.code(status).send(body)
      },
    )

    api.post(
      '/chats/:chatId/messages',
      {
        schema: {
          tags,
          summary: 'Send a message',
          params: ChatParams,
          body: SendMessage,
          response: { ...SENT, ...ERRORS },
        },
      },
      async (request, reply) => {
        const caller = { partnerId: request.partnerId, traceId: request.id }
        const { chatId } = request.params
        const { status, body } = await sendMessage(app, { ...caller, chatId, content: request.body.message })
        return reply.code(status).send(body)
      },
    )

    api.post(
      '/chats/:chatId/voicememo',
      {
        schema: {
          tags,
          summary: 'Send a voice memo',
          params: ChatParams,
          body: SendVoiceMemo,
          response: { 202: AcceptedVoiceMemo, ...ERRORS },
        },
      },
      async (request, reply) => {
        const { voice_memo_url, attachment_id } = request.body
        const caller = { partnerId: request.partnerId, traceId: request.id }
        const { chatId } = request.params
        return reply.code(202).send(await sendVoiceMemo(app, { ...caller, chatId, voice_memo_url, attachment_id }))
      },
    )

    api.get(
      '/chats/:chatId/messages',
      {
        schema: {
          tags,
          summary: 'List the messages of a chat, newest first',
          params: ChatParams,
          querystring: PageQuery,
          response: { 200: Messages, ...ERRORS },
        },
      },
      async (request) => {
        const page = parsePage(request.query, DEFAULT_PAGE)
        return await listChatMessages(app, { partnerId: request.partnerId, chatId: request.params.chatId, page })
      },
    )

    api.get(
      '/messages/:messageId',
      {
        schema: {
          tags,
          summary: 'Retrieve a message',
          params: MessageParams,
          response: { 200: Ref<MessageJson>('Message'), ...ERRORS },
        },
      },
      (request) => getMessage(app, request.partnerId, request.params.messageId),
    )

    api.delete(
      '/messages/:messageId',
      {
        schema: {
          tags,
          summary: 'Delete the record of a message',
          description: 'The recipient keeps the message. Its attachments stay.',
          params: MessageParams,
          response: { 204: Type.Null(), ...ERRORS },
        },
      },
      async (request, reply) => {
        await deleteMessage(app, request.partnerId, request.params.messageId)
        return reply.code(204).send(null)
      },
    )
  }
}
