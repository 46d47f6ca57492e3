/** The lines of the caller: `phone_numbers`, and its older name `phonenumbers`. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { App } from '../app.ts'
import { ERRORS, Nullable, Uuid } from '../http/schemas.ts'
import { listPhoneNumbers } from '../partners/rows.ts'

const DOC_URL = 'https://docs.linqapp.com/guides/phone-numbers/phone-reputation#healthy'

const Standing = Type.Object({
  status: Type.Union([Type.Literal('HEALTHY'), Type.Literal('AT_RISK'), Type.Literal('CRITICAL')]),
  doc_url: Type.String(),
})

const PhoneNumbers = Type.Object({
  phone_numbers: Type.Array(
    Type.Object({
      id: Uuid,
      phone_number: Type.String({ examples: ['+12025550100'] }),
      health_status: Standing,
      reputation: Standing,
      forwarding_number: Nullable(Type.String()),
    }),
  ),
})

const OldPhoneNumbers = Type.Object({
  phone_numbers: Type.Array(
    Type.Object({
      id: Uuid,
      phone_number: Type.String(),
      type: Type.Null(),
      country_code: Type.Null(),
      capabilities: Type.Object({ sms: Type.Boolean(), mms: Type.Boolean(), voice: Type.Boolean() }),
    }),
  ),
})

export function phoneNumberRoutes(app: App): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      '/phone_numbers',
      { schema: { tags: ['Phone numbers'], summary: 'List your lines', response: { 200: PhoneNumbers, ...ERRORS } } },
      async (request) => {
        const standing = { status: 'HEALTHY' as const, doc_url: DOC_URL }
        const lines = await listPhoneNumbers(app.db, request.partnerId)
        return {
          phone_numbers: lines.map(({ id, phone_number }) => ({
            id,
            phone_number,
            health_status: standing,
            reputation: standing,
            forwarding_number: null,
          })),
        }
      },
    )

    api.get(
      '/phonenumbers',
      {
        schema: {
          tags: ['Phone numbers'],
          summary: 'List your lines (older form)',
          deprecated: true,
          response: { 200: OldPhoneNumbers, ...ERRORS },
        },
      },
      async (request) => {
        const lines = await listPhoneNumbers(app.db, request.partnerId)
        return {
          phone_numbers: lines.map(({ id, phone_number }) => ({
            id,
            phone_number,
            type: null,
            country_code: null,
            capabilities: { sms: true, mms: true, voice: true },
          })),
        }
      },
    )
  }
}
