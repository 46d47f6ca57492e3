/** The OpenAPI document says what the server does: every answer of every operation is held against it. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { jpeg, svg, wav } from '../fixtures/media/files.ts'
import { startServer } from '../support/satchel.ts'
import { eventually, lineOf, openChat, text, upload } from '../support/scene.ts'

type Json = { [name: string]: Json | undefined }
type Operation = { responses: Json; requestBody?: Json; parameters?: unknown; summary?: string; tags?: string[] }
type Document = { openapi: string; info: Json; paths: Record<string, Record<string, Operation>>; components: Json }

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const document = (await (await fetch(`${server.api}/openapi.json`)).json()) as Document
const BASE = '/api/partner'
const NOWHERE = '00000000-0000-4000-8000-000000000000'

const ajv = new Ajv2020({ strict: false, allErrors: true })
formats.default(ajv)
/** Closed: an answer may hold nothing that is not documented. */
ajv.addSchema({ $id: 'document', ...(closed(document) as object) })

const answered = new Map<string, Set<string>>()

/** Asks for real and holds status, type and body against the document. */
async function ask<T>(method: string, path: string, ids: Record<string, string>, body?: unknown): Promise<T> {
  const operation = document.paths[BASE + path]?.[method]
  assert.ok(operation, `${method} ${path} is not documented`)
  const url = path.replace(/\{(\w+)\}/g, (_, name: string) => ids[name] ?? '')
  const init = body === undefined ? {} : { body: JSON.stringify(body) }
  const answer = await server.call(url, { method: method.toUpperCase(), ...init })
  const content = await answer.text()
  const status = [String(answer.status), `${String(answer.status)[0]}XX`].find((name) => operation.responses[name])
  assert.ok(status, `${method} ${path} answered ${answer.status}, which is not documented: ${content}`)
  answered.set(`${method} ${path}`, (answered.get(`${method} ${path}`) ?? new Set()).add(status))
  if (!operation.responses[status]?.content) {
    assert.equal(content, '')
    return undefined as T
  }
  assert.match(answer.headers.get('content-type') ?? '', /^application\/json/)
  const value = JSON.parse(content) as T
  const steps = ['paths', BASE + path, method, 'responses', status, 'content', 'application/json', 'schema']
  const pointer = steps.map((step) => encodeURIComponent(step.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')
  const validate = ajv.getSchema(`document#/${pointer}`) as ValidateFunction
  assert.ok(validate(value), `${method} ${path} ${status}: ${ajv.errorsText(validate.errors)}\n${content}`)
  return value
}

test('the document is OpenAPI 3.1, with a title, a version and every operation explained', () => {
  assert.match(document.openapi, /^3\.1\.\d$/)
  assert.equal(document.info.title, 'Satchel')
  assert.match(String(document.info.version), /^\d+\.\d+\.\d+/)
  assert.deepEqual(
    Object.keys(document.paths).filter((path) => !path.startsWith(`${BASE}/v3/`) && !path.startsWith('/sandbox/')),
    [],
  )
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const [method, { summary, tags, responses }] of Object.entries(operations)) {
      assert.ok(summary && tags?.length === 1, `${method} ${path}`)
      assert.ok(responses['4XX'] && responses['5XX'], `${method} ${path}`)
    }
  }
})

test('every reference in the document leads somewhere', () => {
  for (const [, pointer = ''] of JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)) {
    assert.match(pointer, /^#\/components\/schemas\/\w+$/)
    assert.ok(document.components.schemas?.[pointer.split('/').at(-1) ?? ''], pointer)
  }
})

test('attachments answer as documented', async () => {
  const path = '/v3/attachments/{attachmentId}'
  const good = { filename: 'a.jpg', content_type: 'image/jpeg', size_bytes: 1 }
  const made = await ask<{ attachment_id: string }>('post', '/v3/attachments', {}, good)
  await ask('post', '/v3/attachments', {}, { ...good, content_type: 'image/webp' })
  await ask('get', path, { attachmentId: made.attachment_id })
  for (const content of [jpeg(), Buffer.from(svg)])
    await ask('get', path, { attachmentId: (await upload(client, content, 'a.jpg', 'image/jpeg')).attachment_id })
  await ask('get', path, { attachmentId: NOWHERE })
  await ask('delete', path, { attachmentId: made.attachment_id })
  await ask('delete', path, { attachmentId: made.attachment_id })
})

test('chats and messages answer as documented', async () => {
  const file = await upload(client, wav(), 'memo.wav', 'audio/x-wav')
  const media = { type: 'media', attachment_id: file.attachment_id }
  const decorated = { ...text('Hello'), text_decorations: [{ range: [0, 1], style: 'bold' }] }
  const begin = { from: lineOf(server), to: ['+14155550100', 'ada@example.com'] }
  const effect = { type: 'screen', name: 'echo' }
  const first = { parts: [decorated, media, text('!')], effect, preferred_service: 'SMS', idempotency_key: 'first' }
  const made = await ask<{ chat: { id: string } }>('post', '/v3/chats', {}, { ...begin, message: first })
  await ask('post', '/v3/chats', {}, { ...begin, message: first })
  await ask('post', '/v3/chats', {}, begin)
  const chat = { chatId: made.chat.id }
  const list = '/v3/chats/{chatId}/messages'
  const again = await ask<{ chat_id: string }>('post', list, chat, {
    message: { parts: [text('x')], idempotency_key: 'first' },
  })
  assert.deepEqual(again, made)
  const link = { parts: [{ type: 'link', value: 'https://example.com' }] }
  const sent = await ask<{ message: { id: string } }>('post', list, chat, { message: link })
  const message = { messageId: sent.message.id }
  await ask('post', list, chat, { message: { parts: [decorated], reply_to: { message_id: sent.message.id } } })
  await ask('post', list, { chatId: NOWHERE }, { message: link })
  await ask('post', '/v3/chats/{chatId}/voicememo', chat, { attachment_id: file.attachment_id })
  await ask('post', '/v3/chats/{chatId}/voicememo', chat, {})
  await ask('get', list, chat)
  type Listed = { messages: { delivery_status: string }[] }
  await eventually(
    () => ask<Listed>('get', list, chat),
    ({ messages }) => messages.every(({ delivery_status }) => delivery_status === 'delivered'),
  )
  await client.attachments.delete(file.attachment_id)
  await ask('get', list, chat)
  await ask('get', list, { chatId: NOWHERE })
  await openChat(server, '+14155550101')
  await ask('get', '/v3/chats', {})
  assert.equal((await server.call('/v3/chats?limit=0')).status, 400)
  await ask('get', '/v3/chats/{chatId}', chat)
  await ask('get', '/v3/chats/{chatId}', { chatId: NOWHERE })
  await ask('get', '/v3/messages/{messageId}', message)
  await ask('delete', '/v3/messages/{messageId}', message)
  await ask('delete', '/v3/messages/{messageId}', message)
  await ask('get', '/v3/messages/{messageId}', message)
})

test('lines answer as documented', async () => {
  await ask('get', '/v3/phone_numbers', {})
  await ask('get', '/v3/phonenumbers', {})
})

test('webhook subscriptions answer as documented', async () => {
  const path = '/v3/webhook-subscriptions/{subscriptionId}'
  await ask('get', '/v3/webhook-events', {})
  const body = { target_url: 'https://example.com/hook', subscribed_events: ['message.sent'] }
  const made = await ask<{ id: string }>('post', '/v3/webhook-subscriptions', {}, body)
  await ask('post', '/v3/webhook-subscriptions', {}, body)
  await ask('get', '/v3/webhook-subscriptions', {})
  const subscription = { subscriptionId: made.id }
  await ask('get', path, subscription)
  await ask('put', path, subscription, { is_active: false })
  await ask('put', path, subscription, { is_active: 'no' })
  await ask('delete', path, subscription)
  await ask('delete', path, subscription)
})

test('no documented operation was left out, and each one was seen to succeed', () => {
  const documented = Object.entries(document.paths)
    .filter(([path]) => path.startsWith(BASE))
    .flatMap(([path, operations]) => Object.keys(operations).map((method) => `${method} ${path.slice(BASE.length)}`))
  assert.deepEqual([...answered.keys()].sort(), documented.sort())
  for (const [operation, statuses] of answered)
    assert.ok(
      [...statuses].some((status) => status.startsWith('2')),
      operation,
    )
})

test('the page for people loads all it needs from this server', async () => {
  const page = await (await fetch(`${server.api}/docs`)).text()
  const needs = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, url = '']) => url)
  assert.ok(needs.length > 3)
  for (const url of needs) {
    assert.match(url, /^[./]/)
    const answer = await fetch(new URL(url, `${server.api}/docs/`))
    assert.ok((await answer.arrayBuffer()).byteLength > 0)
    assert.equal(answer.status, 200, url)
  }
})

/** The same schemas, with every object that lists its properties closed to others. */
function closed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closed)
  if (typeof value !== 'object' || value === null) return value
  const copy = Object.fromEntries(Object.entries(value).map(([name, child]) => [name, closed(child)]))
  return value && 'type' in value && value.type === 'object' && 'properties' in value
    ? { ...copy, additionalProperties: false }
    : copy
}
