/**
 * Reads Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6): lines of
 * `field: value` that end in LF, CRLF or CR, an empty line after each event, comments behind a colon. `retry` is ignored.
 */

/**
 * `data` lines are joined by LF; `id` is the last one seen, be it with an earlier event. Unlike in a browser an id that comes
 * without data is told too, as an event with empty data: it says where to go on after a break.
 */
export type StreamedEvent = { id: string; event: string; data: string }

/** One line: a webhook's envelope is a few kilobytes, so a stream with longer ones is something else. */
const LONGEST_LINE = 16 * 1024 * 1024

/** Ends with the stream, of which an unfinished event is dropped; throws what the stream throws. */
export async function* readEventStream(body: AsyncIterable<Uint8Array>): AsyncGenerator<StreamedEvent> {
  let id = ''
  let event = ''
  let data: string[] = []
  let told = ''
  for await (const line of readLines(body)) {
    if (line === '') {
      if (data.length > 0 || id !== told) yield { id, event: event || 'message', data: data.join('\n') }
      told = id
      event = ''
      data = []
      continue
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? []
    if (field === 'data') data.push(value)
    else if (field === 'event') event = value
    else if (field === 'id' && !value.includes('\0')) id = value
  }
}

async function* readLines(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true })
    // A CR at the end may be half of a CRLF: it waits for what follows.
    const lines = rest.split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop() ?? ''
    if (rest.length > LONGEST_LINE) throw new Error('a line of the event stream is too long')
    yield* lines
  }
}
