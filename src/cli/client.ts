/**
 * What the commands that talk to a running Satchel have in common: where it is, with which key, and what to say when it
 * does not answer or says no. The API's own message is what people get to read.
 */
import { clientEnvironment } from '../config.ts'

export type ClientEnvironment = ReturnType<typeof clientEnvironment>
/** `origin` is what `/api/partner` and `/sandbox` follow; no slash at its end. */
export type Api = { origin: string; apiKey: string }

export const API_OPTIONS = { url: { type: 'string' }, key: { type: 'string' } } as const

export const API_HELP = `  --url ORIGIN     where Satchel runs; without it, from LINQ_API_V3_BASE_URL, else http://127.0.0.1:4010
  --key API_KEY    without it, LINQ_API_V3_API_KEY; "satchel serve" prints both at its start`

/** The call could not be made or was refused; `message` is for people. `status` is 0 when nobody answered. */
export class CallFailed extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.name = 'CallFailed'
    this.status = status
  }
}

/** A string says what is missing. */
export function findApi(o: { url?: string; key?: string }, env: ClientEnvironment = clientEnvironment()): Api | string {
  const text = o.url ?? env.baseUrl ?? 'http://127.0.0.1:4010'
  const url = URL.parse(text)
  if (!url || !/^https?:$/.test(url.protocol)) return `"${text}" is not an http or https URL`
  const apiKey = o.key ?? env.apiKey
  if (!apiKey)
    return 'there is no API key: give --key or set LINQ_API_V3_API_KEY; "satchel serve" prints it at its start'
  const origin = (url.origin + url.pathname).replace(/\/+$/, '').replace(/\/api\/partner(\/v3)?$/, '')
  return { origin, apiKey }
}

/** Resolves with a successful answer, its body unread; else throws CallFailed, or the reason of an aborted `signal`. */
export async function call(api: Api, path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response
  try {
    response = await fetch(api.origin + path, {
      ...init,
      headers: { ...init.headers, authorization: `Bearer ${api.apiKey}` },
    })
  } catch (error) {
    if (init.signal?.aborted) throw error
    throw new CallFailed(0, `no answer from ${api.origin} (${reasonOf(error)}); is "satchel serve" running there?`)
  }
  if (response.ok) return response
  throw new CallFailed(response.status, `the API answered ${response.status}${await explain(response)}`)
}

/** The code of a failed fetch, such as ECONNREFUSED. */
export function reasonOf(error: unknown): string {
  const { cause, message, name } = error as Error & { cause?: { code?: string; message?: string } }
  if (name === 'TimeoutError') return 'timed out'
  return cause?.code || cause?.message || message
}

async function explain(response: Response): Promise<string> {
  const text = await response.text().catch(() => '')
  try {
    const { error } = JSON.parse(text) as { error: { code: number; message: string } }
    return `: ${error.message} (code ${error.code})`
  } catch {
    return response.status === 404 ? ': there is no such path; is this Satchel, with its sandbox on?' : ''
  }
}
