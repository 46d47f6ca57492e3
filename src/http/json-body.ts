/**
 * Request bodies: JSON objects in UTF-8, whatever Content-Type says, or nothing at all (the SDKs send both an empty JSON
 * body and no body on the same calls). NUL characters and unpaired surrogates are refused wherever they hide: no database
 * of ours can keep them, and no client means them.
 */
import { isUtf8 } from 'node:buffer'
import { Failure } from '../failure.ts'
import { join } from './validation.ts'

/** Deeper than any message; a limit of our own, so that no later code has to fear depth. */
const DEEPEST = 32

export function parseJsonBody(body: Buffer): unknown {
  if (body.length === 0) return undefined
  if (!isUtf8(body)) throw new Failure('bad_body', 'The body is not valid UTF-8')
  const text = body.toString('utf8').replace(/^\uFEFF/, '')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new Failure('bad_body', 'The body is not valid JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Failure('bad_body', 'The body must be a JSON object')
  }
  examine(value, text.includes('\\u'))
  return value
}

/** Depth is bounded, so recursion is safe; the path is put together only for a refusal, since there may be millions of values. */
function examine(root: object, mayHoldEscapes: boolean): void {
  const path: (string | number)[] = []
  const enter = (step: string | number, value: unknown): void => {
    path.push(step)
    visit(value)
    path.pop()
  }
  const visit = (value: unknown): void => {
    if (typeof value === 'string') {
      if (mayHoldEscapes) checkString(value, path)
    } else if (Array.isArray(value)) {
      checkDepth(path)
      for (const [index, item] of value.entries()) enter(index, item)
    } else if (typeof value === 'object' && value !== null) {
      checkDepth(path)
      for (const [name, child] of Object.entries(value)) {
        if (mayHoldEscapes) checkString(name, path)
        enter(name, child)
      }
    }
  }
  visit(root)
}

function checkDepth(path: readonly unknown[]): void {
  if (path.length >= DEEPEST) throw new Failure('bad_body', 'The body is nested too deeply')
}

function checkString(value: string, steps: readonly (string | number)[]): void {
  if (value.isWellFormed() && !value.includes('\0')) return
  const path = steps.reduce<string>((before, step) => join(before, String(step)), '')
  const failure = path.startsWith('message.parts') ? 'bad_message' : 'bad_parameter'
  throw new Failure(failure, `${path.toWellFormed() || 'The body'} holds a NUL character or half a surrogate pair`)
}
