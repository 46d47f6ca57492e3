// A complete gateway that "sends" by printing and answers every message, as docs/gateway.md explains. Needs Node 20 alone.
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const { GATEWAY_PORT = '4020', GATEWAY_SECRET, EVENTS_URL = 'http://127.0.0.1:4010/gateway/events' } = process.env
if (!GATEWAY_SECRET?.startsWith('whsec_')) throw new Error('GATEWAY_SECRET must be set to the secret that Satchel has')
const key = Buffer.from(GATEWAY_SECRET.slice('whsec_'.length), 'base64')

function sign(id, timestamp, body) {
  return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`
}

function isSigned({ 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature = '' }, body) {
  const [given, expected] = [Buffer.from(signature), Buffer.from(sign(id, timestamp, body))]
  const isFresh = Math.abs(Date.now() / 1000 - Number(timestamp)) <= 300
  return isFresh && given.length === expected.length && timingSafeEqual(given, expected)
}

/** Tells Satchel, with the same id until it has answered. Each try has a timestamp and a signature of its own. */
async function report(event) {
  const [id, body] = [randomUUID(), JSON.stringify(event)]
  for (let pauseMs = 500; ; pauseMs = Math.min(pauseMs * 2, 60_000)) {
    const timestamp = String(Math.floor(Date.now() / 1000))
    const signed = { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': sign(id, timestamp, body) }
    const headers = { 'content-type': 'application/json', ...signed }
    const answer = await fetch(EVENTS_URL, { method: 'POST', headers, body }).catch(() => undefined)
    if (answer?.ok) return
    if (answer && answer.status < 500 && answer.status !== 429) {
      console.error(`refused: ${await answer.text()}`)
      return
    }
    await sleep(pauseMs)
  }
}

/** Where a real gateway talks to its phone network. */
async function deliver({ id, from, to, parts }) {
  for (const part of parts) {
    if (part.type === 'media') {
      const file = await (await fetch(part.url)).arrayBuffer()
      console.log(`${from} -> ${to}: ${part.filename}, ${part.content_type}, ${file.byteLength} bytes`)
    } else console.log(`${from} -> ${to}: ${part.type === 'text' ? part.text : part.url}`)
  }
  for (const type of ['sent', 'delivered', 'read']) await report({ type, message_id: id })
  await report({ type: 'received', carrier_ref: `answer-to-${id}`, from: to[0], to: from, text: 'Got it' })
}

/** A real gateway keeps these where they outlive it: a message may come again after days. */
const taken = new Set()

const server = createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray())
  if (!isSigned(request.headers, body)) return response.writeHead(401).end()
  const message = JSON.parse(body.toString())
  if (!taken.has(message.id)) {
    taken.add(message.id)
    deliver(message).catch((error) => report({ type: 'failed', message_id: message.id, reason: String(error) }))
  }
  response.writeHead(202).end()
})
server.listen(Number(GATEWAY_PORT), '127.0.0.1', () => console.log(`listening on port ${server.address().port}`))
