/**
 * `POST /gateway/events` on the API port: where the gateway reports. There is no API key here: who knows the secret of the
 * gateway signs with it, and nothing of a body is looked at before its signature fits.
 * An answer of 202 means that everything is stored; every event may be sent again.
 */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { App } from '../app.ts'
import { ERRORS } from '../http/schemas.ts'
import { type Report, reportMessage } from '../messages/deliver.ts'
import type { ReceivedMessage } from '../messages/receive.ts'
import type { Gateway } from './gateway.ts'
import { receiveFromGateway } from './gateway-receive.ts'
import {
  checkSignature,
  GatewayEvent,
  parseAt,
  parseEvent,
  type ReceivedEvent,
  SignatureHeaders,
  Taken,
} from './gateway-wire.ts'

const BODY_LIMIT_BYTES = 1024 * 1024

export function gatewayRoutes(app: App, gateway: Pick<Gateway, 'secret' | 'remote'>): FastifyPluginAsyncTypebox {
  const underway = new Map<string, Promise<ReceivedMessage>>()

  /** A gateway that lost patience and tries again waits for the first try, rather than to download the media once more. */
  function receiveOnce(o: Parameters<typeof receiveFromGateway>[2]): Promise<ReceivedMessage> {
    const ref = o.event.carrier_ref
    const mine = underway.get(ref) ?? receiveFromGateway(app, gateway.remote, o).finally(() => underway.delete(ref))
    underway.set(ref, mine)
    return mine
  }

  return async (api) => {
    api.removeAllContentTypeParsers()
    api.addContentTypeParser('*', { parseAs: 'buffer' }, async (_: unknown, body: Buffer) => body)
    api.addHook('preValidation', async (request) => {
      const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
      checkSignature({ secret: gateway.secret, headers: request.headers, body, now: app.clock.now() })
      request.body = parseEvent(body)
    })

    api.post(
      '/gateway/events',
      {
        bodyLimit: BODY_LIMIT_BYTES,
        schema: {
          tags: ['Gateway'],
          summary: 'Report what became of a message, or one that came in',
          description:
            'For the gateway only, which signs with SATCHEL_GATEWAY_SECRET in the way of Standard Webhooks. ' +
            'Repeating an event changes nothing.',
          security: [],
          headers: SignatureHeaders,
          body: GatewayEvent,
          response: { 202: Taken, ...ERRORS },
        },
      },
      async (request, reply) => {
        const event = request.body
        if (event.type === 'received') {
          const eventId = String(request.headers['webhook-id'])
          const { chatId, messageId } = await receiveOnce({ event, eventId, traceId: request.id })
          return reply.code(202).send({ chat_id: chatId, message_id: messageId })
        }
        await reportMessage(app, event.message_id.toLowerCase(), reportOf(event, app.clock.now()))
        return reply.code(202).send({})
      },
    )
  }
}

function reportOf(event: Exclude<GatewayEvent, ReceivedEvent>, now: number): Report {
  const at = parseAt(event.at, now)
  if (event.type !== 'failed') return { type: event.type, at }
  const { type, code = 4001, reason } = event
  return { type, at, code, ...(reason === undefined ? {} : { reason }) }
}
