/**
 * The sandbox's own calls, `/sandbox/*` on the API port with the same API key: what a phone would do (send, read, show), the
 * clock, faults, and starting over. None of it is part of the vendor's API, so none of it is under /v3.
 */
import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import type { App } from '../../app.ts'
import { Failure, failureOfCode } from '../../failure.ts'
import { ERRORS, iso, Ref, Uuid } from '../../http/schemas.ts'
import type { MessageJson } from '../../messages/wire.ts'
import { resetClock } from './clock.ts'
import { FAULTS, type FaultKind, type Faults } from './faults.ts'
import { readMessage, receiveForm } from './inbound.ts'
import { listPhones, phoneMessages } from './phones.ts'
import { resetPartner } from './reset.ts'
import type { Sandbox } from './sandbox.ts'

const tags = ['Sandbox']
/** A year ahead of real time, in all. */
const LONGEST_ADVANCE_SECONDS = 366 * 86_400
const FILES_PER_MESSAGE = 20
const FILE_BYTES = 100 * 1024 * 1024 + 1

const Match = Type.Object({
  method: Type.Optional(Type.String()),
  path: Type.Optional(Type.String({ description: 'The beginning of the path, from /v3 on' })),
  to: Type.Optional(Type.String()),
  attachment_id: Type.Optional(Uuid),
  event_type: Type.Optional(Type.String()),
})
const NewFault = Type.Object({
  kind: Type.Enum(Object.keys(FAULTS) as FaultKind[], {
    description: Object.entries(FAULTS)
      .map(([kind, about]) => `\`${kind}\`: ${about}`)
      .join(' '),
  }),
  times: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'How often; default 1' })),
  seconds: Type.Optional(Type.Number({ minimum: 0, maximum: 3600 })),
  code: Type.Optional(Type.Integer()),
  retry_after: Type.Optional(Type.Integer({ minimum: 0, maximum: 86_400 })),
  match: Type.Optional(Match),
})

const Moved = Type.Object({ now: Type.String(), offset_seconds: Type.Number() })
const Accepted = Type.Object({ chat_id: Uuid, message_id: Uuid })
const Phones = Type.Object({
  phones: Type.Array(Type.Object({ handle: Type.String(), messages: Type.Integer(), last_message_at: Type.String() })),
})
const PhoneMessages = Type.Object({ messages: Type.Array(Ref<MessageJson>('Message')) })

export function sandboxRoutes(app: App, sandbox: Sandbox): FastifyPluginAsyncTypebox {
  return async (api) => {
    await api.register(multipart, {
      limits: { files: FILES_PER_MESSAGE, fileSize: FILE_BYTES, fields: 20, fieldSize: 64 * 1024, parts: 50 },
    })

    api.post(
      '/messages',
      {
        schema: {
          tags,
          summary: 'Be a phone: send a message to a line',
          description:
            'Multipart form: `from`, `to` (a line of yours), `text`, `service`, any number of `media` files.',
          consumes: ['multipart/form-data'],
          response: { 201: Accepted, ...ERRORS },
        },
      },
      async (request, reply) => {
        const caller = { partnerId: request.partnerId, traceId: request.id }
        const { chatId, messageId } = await receiveForm(app, request, caller)
        return reply.code(201).send({ chat_id: chatId, message_id: messageId })
      },
    )

    api.post(
      '/messages/:messageId/read',
      {
        schema: {
          tags,
          summary: 'Be a phone: read a message',
          params: Type.Object({ messageId: Uuid }),
          response: { 204: Type.Null(), ...ERRORS },
        },
      },
      async (request, reply) => {
        await readMessage(app, request.partnerId, request.params.messageId.toLowerCase())
        return reply.code(204).send(null)
      },
    )

    api.get(
      '/phones',
      { schema: { tags, summary: 'List the phones that were written with', response: { 200: Phones, ...ERRORS } } },
      async (request) => ({ phones: await listPhones(app.db, request.partnerId) }),
    )

    api.get(
      '/phones/:handle/messages',
      {
        schema: {
          tags,
          summary: 'What a phone shows, newest last',
          params: Type.Object({ handle: Type.String() }),
          response: { 200: PhoneMessages, ...ERRORS },
        },
      },
      async (request) => ({ messages: await phoneMessages(app, request.partnerId, request.params.handle) }),
    )

    api.post(
      '/clock',
      {
        schema: {
          tags,
          summary: 'Move time forward',
          description: 'Upload expiry, retries and retention follow. `{"reset":true}` goes back to real time.',
          body: Type.Object({
            advance_seconds: Type.Optional(Type.Number({ minimum: 0, maximum: LONGEST_ADVANCE_SECONDS })),
            reset: Type.Optional(Type.Boolean()),
          }),
          response: { 200: Moved, ...ERRORS },
        },
      },
      async ({ body: { advance_seconds, reset } }) => {
        if ((advance_seconds === undefined) === (reset !== true)) {
          throw new Failure('missing_field', 'Send either advance_seconds or reset: true')
        }
        if (advance_seconds === undefined) await resetClock(app, sandbox.clock)
        else if (sandbox.clock.offset / 1000 + advance_seconds <= LONGEST_ADVANCE_SECONDS) {
          sandbox.clock.advance(Math.round(advance_seconds * 1000))
        } else throw new Failure('bad_parameter', 'the clock may be at most a year ahead of real time')
        return { now: iso(sandbox.clock.now()), offset_seconds: sandbox.clock.offset / 1000 }
      },
    )

    faultRoutes(api, sandbox.faults)

    api.post(
      '/reset',
      {
        schema: {
          tags,
          summary: 'Start over',
          description:
            'Removes everything of this partner but its key and lines, disarms its faults, resets the clock.',
          response: { 204: Type.Null(), ...ERRORS },
        },
      },
      async (request, reply) => {
        // First, so that the jobs of the reset are due now.
        await resetClock(app, sandbox.clock)
        await resetPartner(app, request.partnerId)
        sandbox.faults.clear(request.partnerId)
        return reply.code(204).send(null)
      },
    )
  }
}

function faultRoutes(api: Parameters<FastifyPluginAsyncTypebox>[0], faults: Faults): void {
  const List = Type.Object({ faults: Type.Array(Type.Unknown()) })

  api.post(
    '/faults',
    { schema: { tags, summary: 'Arm a fault', body: NewFault, response: { 201: Type.Unknown(), ...ERRORS } } },
    async (request, reply) => {
      const fault = checkFault(request.body)
      return reply.code(201).send(faults.arm(request.partnerId, fault))
    },
  )

  api.get(
    '/faults',
    { schema: { tags, summary: 'List armed faults', response: { 200: List, ...ERRORS } } },
    async (request) => ({ faults: faults.list(request.partnerId) }),
  )

  api.delete(
    '/faults',
    { schema: { tags, summary: 'Disarm all faults', response: { 204: Type.Null(), ...ERRORS } } },
    async (request, reply) => {
      faults.clear(request.partnerId)
      return reply.code(204).send(null)
    },
  )
}

function checkFault({ times = 1, ...fault }: Static<typeof NewFault>) {
  if (fault.kind === 'error' && (fault.code === undefined || !failureOfCode(fault.code))) {
    throw new Failure('bad_parameter', 'code must be an error code of the contract')
  }
  if (fault.kind === 'delivery_failed' && fault.code !== undefined && fault.code !== 3007 && fault.code !== 4001) {
    throw new Failure('bad_parameter', 'code must be 3007 or 4001')
  }
  return { ...fault, times } as Parameters<Faults['arm']>[1]
}
