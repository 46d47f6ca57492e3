/**
 * A caller as a careful integration is one: it uploads, sends with an idempotency key, and repeats what may be repeated
 * (no answer, 5xx, 429) until it has an answer. It remembers every acknowledgement, and every error that it was not promised.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster } from './nodes.ts'

/** Longer than a killed node may take to start again. */
const PATIENCE_MS = 180_000

export type Sent = {
  attachmentId: string
  downloadUrl: string
  bytes: Buffer
  messageId: string
  chatId: string
  key: string
}

export type Caller = {
  readonly sent: Sent[]
  /** Answers that a caller may not get: anything but success, or an error that is marked as worth repeating. */
  readonly unexpected: string[]
  readonly repeated: number
  /** Uploads a file and sends it, over and over, until `stop` says so. */
  work(stop: () => boolean): Promise<void>
}

export function openCaller(cluster: Cluster): Caller {
  const sent: Sent[] = []
  const unexpected: string[] = []
  const counts = { repeated: 0 }

  /** Repeats until the answer is good. An answer that may not be repeated ends it, and is written down. */
  async function insist(what: string, ask: () => Promise<Response>): Promise<unknown> {
    for (const until = Date.now() + PATIENCE_MS; Date.now() < until; await sleep(50 + Math.random() * 100)) {
      const answer = await ask().catch(() => undefined)
      const text = await answer?.text().catch(() => undefined)
      if (answer?.ok && text !== undefined) return text === '' ? undefined : JSON.parse(text)
      counts.repeated++
      if (answer && text !== undefined && !isRetryable(what, answer, text)) {
        unexpected.push(`${what}: ${answer.status} ${answer.headers.get('x-should-retry')} ${text}`)
        throw new Error(unexpected.at(-1))
      }
    }
    throw new Error(`${what} had no good answer within ${PATIENCE_MS} ms`)
  }

  async function uploadAndSend(): Promise<void> {
    const bytes = png(randomUUID())
    const created = (await insist('create', () =>
      cluster.call('/v3/attachments', {
        method: 'POST',
        body: JSON.stringify({ filename: 'a.png', content_type: 'image/png', size_bytes: bytes.length }),
      }),
    )) as { attachment_id: string; upload_url: string; download_url: string; required_headers: Record<string, string> }
    const { attachment_id: attachmentId, upload_url, download_url: downloadUrl, required_headers: headers } = created
    await insist('upload', () => fetch(upload_url, { method: 'PUT', body: new Uint8Array(bytes), headers }))
    const key = randomUUID()
    const to = `+1415555${1000 + Math.floor(Math.random() * 12)}`
    const parts = [
      { type: 'text', value: key },
      { type: 'media', attachment_id: attachmentId },
    ]
    const body = JSON.stringify({ from: cluster.line, to: [to], message: { idempotency_key: key, parts } })
    const { chat } = (await insist('send', () => cluster.call('/v3/chats', { method: 'POST', body }))) as {
      chat: { id: string; message: { id: string } }
    }
    sent.push({ attachmentId, downloadUrl, bytes, messageId: chat.message.id, chatId: chat.id, key })
  }

  return {
    sent,
    unexpected,
    get repeated() {
      return counts.repeated
    },
    async work(stop) {
      while (!stop()) await uploadAndSend()
    },
  }
}

/** 503 with 3001 or 4004 and a Retry-After, and S3's ServiceUnavailable for uploads; never marked as not worth it. */
function isRetryable(what: string, answer: Response, text: string): boolean {
  if (answer.status !== 503 || answer.headers.get('x-should-retry') === 'false') return false
  if (what === 'upload') return text.includes('<Code>ServiceUnavailable</Code>')
  return answer.headers.has('retry-after') && [3001, 4004].includes(JSON.parse(text).error.code)
}

/** A PNG that nobody else has: one pixel, and a text behind it. */
function png(comment: string): Buffer {
  const pixel = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
  return Buffer.concat([Buffer.from(pixel, 'base64'), Buffer.from(comment)])
}
