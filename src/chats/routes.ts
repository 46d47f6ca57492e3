/** Reading chats; they are created by sending (messages/routes.ts). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import type { App } from '../app.ts'
import { Failure } from '../failure.ts'
import { PageQuery, paginate, parsePage } from '../http/page.ts'
import { ERRORS, Ref, Uuid } from '../http/schemas.ts'
import { E164 } from '../phone-numbers/e164.ts'
import { dedupe, getChat, isHandle, MOST_RECIPIENTS } from './open.ts'
import { chatPageKey, listChats } from './rows.ts'
import { type Chat, Chats, chatJson } from './wire.ts'

const DEFAULT_PAGE = 20

const ListQuery = Type.Object({
  ...PageQuery.properties,
  from: Type.Optional(Type.String({ description: 'Only chats of this line' })),
  to: Type.Optional(
    Type.Unsafe<string | string[]>({
      type: ['string', 'array'],
      items: { type: 'string' },
      description: 'Only chats that this handle takes part in; several: comma-separated or repeated',
    }),
  ),
})

export function chatRoutes(app: App): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      '/chats',
      {
        schema: {
          tags: ['Chats'],
          summary: 'List chats, newest activity first',
          querystring: ListQuery,
          response: { 200: Chats, ...ERRORS },
        },
      },
      async (request) => {
        const page = parsePage(request.query, DEFAULT_PAGE)
        const filter = { partnerId: request.partnerId, ...parseFilter(request.query) }
        const { rows, next_cursor } = paginate(await listChats(app.db, filter, page), page.limit, chatPageKey)
        return { chats: rows.map(chatJson), next_cursor }
      },
    )

    api.get(
      '/chats/:chatId',
      {
        schema: {
          tags: ['Chats'],
          summary: 'Retrieve a chat',
          params: Type.Object({ chatId: Uuid }),
          response: { 200: Ref<Static<typeof Chat>>('Chat'), ...ERRORS },
        },
      },
      async (request) => chatJson(await getChat(app, request.partnerId, request.params.chatId)),
    )
  }
}

function parseFilter({ from, to }: Static<typeof ListQuery>): { from: string | undefined; to: string[] } {
  if (from !== undefined && !E164.test(from)) {
    throw new Failure('bad_phone_number', 'from must be a phone number in E.164 format')
  }
  const handles = to === undefined ? [] : [to].flat().flatMap((text) => text.split(','))
  if (handles.length > MOST_RECIPIENTS)
    throw new Failure('bad_parameter', `to must name at most ${MOST_RECIPIENTS} handles`)
  if (!handles.every(isHandle)) {
    throw new Failure('bad_phone_number', 'to must be a phone number in E.164 format or an e-mail address')
  }
  return { from, to: dedupe(handles) }
}
