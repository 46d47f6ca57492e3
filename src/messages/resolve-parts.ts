/**
 * Turns the parts a caller sent into parts that can be stored: attachments are looked up, URLs are downloaded side by side.
 * What is cheap to refuse is refused before the first download, and one failure stops and undoes all.
 */
import type { App } from '../app.ts'
import { fetchAttachment } from '../attachments/fetch.ts'
import { type CompleteAttachment, findServable, getSendable } from '../attachments/get.ts'
import { discard } from '../attachments/keep.ts'
import { parseDownloadUrl } from '../attachments/links.ts'
import { settleFirst } from '../attachments/settle.ts'
import { Failure } from '../failure.ts'
import { isUuid } from '../ids.ts'
import type { PartIn } from './wire.ts'

const MOST_DOWNLOADS = 40
const ALL_TIME_MS = 25_000

export type ResolvedPart =
  | { type: 'text'; value: string; text_decorations: string | null }
  | { type: 'link'; value: string }
  | { type: 'media'; attachment: CompleteAttachment }

export type Resolved = {
  parts: ResolvedPart[]
  /** Downloaded just now: their bytes are stored, their rows are to be inserted with the message. */
  fetched: CompleteAttachment[]
}

type Source = { type: 'known'; attachment: CompleteAttachment } | { type: 'url'; url: string; field: string }

export async function resolveParts(app: App, partnerId: string, parts: readonly PartIn[]): Promise<Resolved> {
  const sources = new Map<number, Source>()
  for (const [index, part] of parts.entries()) {
    if (part.type !== 'media') continue
    const at = `message.parts[${index}]`
    sources.set(
      index,
      await findSource(app, partnerId, part, { url: `${at}.url`, attachment_id: `${at}.attachment_id` }),
    )
  }
  const urls = [...sources.values()].filter((source) => source.type === 'url')
  if (urls.length > MOST_DOWNLOADS) {
    throw new Failure('bad_message', `message.parts must have at most ${MOST_DOWNLOADS} media parts by URL`)
  }
  const fetched = await fetchAll(app, partnerId, urls)
  const byField = new Map(urls.map(({ field }, index) => [field, fetched[index]]))
  return {
    fetched,
    parts: parts.map((part, index): ResolvedPart => {
      if (part.type === 'text') {
        // Only what we know of them: an unknown field is ignored, not kept.
        const known = part.text_decorations?.map(({ range, style, animation }) => ({ range, style, animation }))
        const decorations = known?.length ? JSON.stringify(known) : null
        return { type: 'text', value: part.value, text_decorations: decorations }
      }
      if (part.type === 'link') return { type: 'link', value: part.value }
      const source = sources.get(index)
      const attachment = source?.type === 'known' ? source.attachment : byField.get(source?.field ?? '')
      if (!attachment) throw new Error(`part ${index} was not resolved`)
      return { type: 'media', attachment }
    }),
  }
}

/** Exactly one of the two is set: checked before. Our own CDN's URLs need no download. `names`: the fields as callers know them. */
export async function findSource(
  app: App,
  partnerId: string,
  { url = '', attachment_id }: { url?: string; attachment_id?: string },
  names: { url: string; attachment_id: string },
): Promise<Source> {
  if (attachment_id !== undefined) {
    if (!isUuid(attachment_id)) throw new Failure('bad_parameter', `${names.attachment_id} must be a valid UUID`)
    await settleFirst(app, partnerId, attachment_id)
    return { type: 'known', attachment: await about(names.attachment_id, getSendable(app, partnerId, attachment_id)) }
  }
  const address = parseDownloadUrl(url, app.urls.cdn)
  if (!address) return { type: 'url', url, field: names.url }
  if (address.partner_id === partnerId) await settleFirst(app, partnerId, address.id)
  const attachment = address.partner_id === partnerId ? await findServable(app, address) : undefined
  if (!attachment) throw new Failure('attachment_not_found', `${names.url}: Attachment not found`)
  return { type: 'known', attachment }
}

/** A failure says which field it is about. */
async function about<T>(field: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw error instanceof Failure ? new Failure(error.failure, `${field}: ${error.message}`) : error
  }
}

/** All or nothing, in the order given. */
export async function fetchAll(
  app: App,
  partnerId: string,
  sources: readonly { url: string; field: string }[],
): Promise<CompleteAttachment[]> {
  if (sources.length === 0) return []
  const stop = new AbortController()
  const timer = setTimeout(() => stop.abort(tooSlow()), ALL_TIME_MS)
  let first: unknown
  const results = await Promise.allSettled(
    sources.map(async ({ url, field }) => {
      try {
        return await fetchAttachment(app, { partnerId, url, field, signal: stop.signal })
      } catch (error) {
        first ??= stop.signal.aborted ? stop.signal.reason : error
        stop.abort(error)
        throw error
      }
    }),
  )
  clearTimeout(timer)
  const fetched = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  if (fetched.length === sources.length) return fetched
  await discard(app, fetched)
  throw first
}

const tooSlow = () =>
  new Failure('download_failed', `The files took longer than ${ALL_TIME_MS / 1000} s to download; upload them instead`)
