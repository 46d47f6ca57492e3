/** A server with a gateway: the double speaks TLS on loopback, and the server trusts it. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeCertificates } from '../support/certificates.ts'
import { type Server, startServer } from '../support/satchel.ts'
import { eventually, lineOf, text } from '../support/scene.ts'
import { type GatewayDouble, type Message, openGatewayDouble, report, SECRET, type Signing } from './double.ts'

export type Stage = {
  readonly gateway: GatewayDouble
  server: Server
  /** Settings of the server, and the folder that it keeps when it is killed. */
  readonly env: Record<string, string>
  readonly dataDir: string
  /** Sends `text` to `to` through the SDK. */
  send(to: string, content?: Parameters<ReturnType<Server['client']>['chats']['create']>[0]['message']): Promise<string>
  /** The message as the gateway got it. */
  taken(id: string): Promise<Message>
  /** Reports, and expects 202; the body of the answer. */
  report(event: unknown, o?: Signing): Promise<{ chat_id?: string; message_id?: string }>
  status(id: string): Promise<string>
  /** Starts it again on the same folder. */
  restart(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export async function openStage(): Promise<Stage> {
  const certificates = await makeCertificates()
  const gateway = await openGatewayDouble({ certificates })
  const dataDir = await mkdtemp(join(tmpdir(), 'satchel-gateway-'))
  await writeFile(join(dataDir, 'ca.pem'), certificates.ca)
  const env = {
    NODE_EXTRA_CA_CERTS: join(dataDir, 'ca.pem'),
    SATCHEL_GATEWAY_URL: gateway.url,
    SATCHEL_GATEWAY_SECRET: SECRET,
    // For subscribers; the gateway goes by another name and needs no leave.
    SATCHEL_EGRESS_ALLOW: '127.0.0.1:*',
  }
  const stage: Stage = {
    gateway,
    env,
    dataDir,
    server: await startServer({ env, dataDir }),
    async send(to, message = { parts: [text('Hello')] }) {
      const { chat } = await stage.server.client().chats.create({ from: lineOf(stage.server), to: [to], message })
      return chat.message.id
    },
    async taken(id) {
      const message = await eventually(
        async () => gateway.messages.get(id),
        (found) => found !== undefined,
      )
      return message ?? assert.fail()
    },
    async report(event, o) {
      const answer = await report(stage.server.api, event, o)
      const body = await answer.text()
      assert.equal(answer.status, 202, body)
      return JSON.parse(body)
    },
    status: async (id) => (await stage.server.client().messages.retrieve(id)).delivery_status,
    async restart() {
      stage.server = await startServer({ env, dataDir })
    },
    async [Symbol.asyncDispose]() {
      await stage.server.stop()
      await gateway[Symbol.asyncDispose]()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
  return stage
}
