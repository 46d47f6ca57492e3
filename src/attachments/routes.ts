/** `/v3/attachments`: create, retrieve, delete. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { App } from '../app.ts'
import { ERRORS, Ref, Uuid } from '../http/schemas.ts'
import { createAttachment } from './create.ts'
import { deleteAttachment } from './delete.ts'
import { getAttachment } from './get.ts'
import { linkTo } from './links.ts'
import { settleFirst } from './settle.ts'
import { attachmentJson, CreateAttachment } from './wire.ts'

const Params = Type.Object({ attachmentId: Uuid })
const tags = ['Attachments']

export function attachmentRoutes(app: App): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.post(
      '/attachments',
      {
        schema: {
          tags,
          summary: 'Begin a pre-upload',
          description: 'Answers with a URL to PUT the file to within 15 minutes, and the permanent id to send it by.',
          body: CreateAttachment,
          response: { 200: Ref('CreatedAttachment'), ...ERRORS },
        },
      },
      (request) => createAttachment(app, { partnerId: request.partnerId, ...request.body }),
    )

    api.get(
      '/attachments/:attachmentId',
      {
        schema: {
          tags,
          summary: 'Retrieve an attachment',
          params: Params,
          response: { 200: Ref('Attachment'), ...ERRORS },
        },
      },
      async (request) => {
        const { partnerId, params } = request
        await settleFirst(app, partnerId, params.attachmentId)
        return attachmentJson(await getAttachment(app, partnerId, params.attachmentId), linkTo(app))
      },
    )

    api.delete(
      '/attachments/:attachmentId',
      {
        schema: {
          tags,
          summary: 'Delete an attachment',
          description: 'Removes the file at once and for ever. Messages that used it stay.',
          params: Params,
          response: { 204: Type.Null(), ...ERRORS },
        },
      },
      async (request, reply) => {
        await deleteAttachment(app, request.partnerId, request.params.attachmentId)
        return reply.code(204).send(null)
      },
    )
  }
}
