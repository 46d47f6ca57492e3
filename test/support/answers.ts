/** What every refusal of the API has to look like, and what no answer may ever hold. */
import assert from 'node:assert/strict'
import LinqAPIV3 from '@linqapp/sdk'

export type Expected = { status: number; code: number; message?: RegExp }

export type ErrorBody = {
  success: false
  error: { status: number; code: number; message: string; doc_url: string }
  trace_id: string
}

/** Asserts the whole answer: status, headers, envelope, and that nothing of the inside shows. */
export async function assertRefused(answer: Response | Promise<Response>, expected: Expected): Promise<ErrorBody> {
  const { status, headers, ...response } = await wholeAnswer(await answer)
  return checkRefusal({ status, headers, text: response.text }, expected)
}

/** The same for a call of the SDK, which has to reject. */
export async function assertSdkRefused(call: Promise<unknown>, expected: Expected): Promise<ErrorBody> {
  const error = await call.then(
    (value) => assert.fail(`accepted: ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof LinqAPIV3.APIError, String(error))
  assert.ok(error.headers)
  return checkRefusal(
    { status: Number(error.status), headers: error.headers, text: JSON.stringify(error.error) },
    expected,
  )
}

/** No stack, path, SQL or name of a library in what a caller gets to see. */
export function assertNothingLeaked(text: string): void {
  const inside =
    /node_modules|node:internal|\bat [\w.<>]+ \(|\.[tj]s:\d+|\/(tmp|home|work|usr|var)\/|\bselect\b.+\bfrom\b|\binsert into\b|sqlite|SQLITE|constraint|kysely|fastify|FST_ERR|ENOENT|ECONN|ERR_[A-Z]|undefined|\[object /i
  assert.doesNotMatch(text, inside)
}

function checkRefusal({ status, headers, text }: { status: number; headers: Headers; text: string }, e: Expected) {
  const body = JSON.parse(text) as ErrorBody
  assert.deepEqual({ status, code: body.error?.code }, { status: e.status, code: e.code }, text)
  assert.match(headers.get('content-type') ?? '', /^application\/json(;|$)/)
  assert.match(body.trace_id, /^[0-9a-f]{32}$/)
  const { message } = body.error
  assert.ok(typeof message === 'string' && message.length > 0, text)
  if (e.message) assert.match(message, e.message)
  const doc_url = `https://docs.linqapp.com/error/codes/${String(e.code)[0]}xxx/${e.code}/`
  const error = { status: e.status, code: e.code, message, doc_url }
  assert.equal(text, JSON.stringify({ success: false, error, trace_id: headers.get('x-trace-id') }))
  assertNothingLeaked(text)
  return body
}

async function wholeAnswer(response: Response) {
  return { status: response.status, headers: response.headers, text: await response.text() }
}
