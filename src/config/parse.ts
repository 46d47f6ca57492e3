/**
 * What each kind of variable may hold: text in, value out. What is wrong is thrown as the second half of a sentence that begins with the
 * name of the variable, and never shows a secret.
 */
import { resolve } from 'node:path'
import { E164 } from '../phone-numbers/e164.ts'
import { parseS3Location } from '../storage/s3-location.ts'

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

export function parseHost(text: string): string {
  if (!/^[A-Za-z0-9.:_-]+$/.test(text)) throw new Error(`"${text}" is not a host name or an IP address.`)
  return text
}

export function parsePort(text: string): number {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port > 65535) throw new Error(`"${text}" is not a port number from 0 to 65535.`)
  return port
}

export function parseBaseUrl(text: string): string | undefined {
  if (text === '') return undefined
  const url = URL.parse(text)
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.search || url.hash || url.username || url.password) {
    throw new Error(`"${text}" is not an http or https URL without query, fragment or user.`)
  }
  return url.href.replace(/\/+$/, '')
}

/** Unlike a base URL it is called as it is, query included. */
export function parseGatewayUrl(text: string): string | undefined {
  if (text === '') return undefined
  const url = URL.parse(text)
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.hash || url.username || url.password) {
    throw new Error(`"${text}" is not an http or https URL without fragment and user.`)
  }
  return url.href
}

export function parseSigningSecret(text: string): string | undefined {
  if (text === '') return undefined
  const [, base64 = ''] = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text) ?? []
  const { length } = Buffer.from(base64, 'base64')
  if (length < 24 || length > 64) throw new Error('must be whsec_ and the base64 of 24 to 64 random bytes.')
  return text
}

export function parsePath(text: string): string {
  if (text.includes('\0')) throw new Error('a path cannot hold a NUL character.')
  return resolve(text)
}

function parseScheme(text: string, scheme: string): string | undefined {
  if (text === '') return undefined
  if (!text.startsWith(scheme) || text.length === scheme.length) throw new Error(`must be ${scheme}PATH.`)
  return parsePath(text.slice(scheme.length))
}

export function parseDatabaseUrl(text: string): string | undefined {
  if (text === '') return undefined
  if (text.startsWith('sqlite:')) return `sqlite:${parseScheme(text, 'sqlite:')}`
  // The text itself holds a password and is never shown.
  const url = URL.parse(text)
  if (!url || !['postgres:', 'postgresql:'].includes(url.protocol) || url.pathname.length < 2) {
    throw new Error('must be sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME.')
  }
  return text
}

export function parsePoolSize(text: string): number {
  const size = Number(text)
  if (!/^\d{1,4}$/.test(text) || size < 2) throw new Error(`"${text}" is not a whole number from 2 to 9999.`)
  return size
}

/** Paths are made absolute; a bucket is checked as far as it can be without asking it. */
export function parseStorageUrl(text: string): string | undefined {
  if (text.startsWith('s3:')) {
    parseS3Location(text)
    return text
  }
  const path = parseScheme(text, 'file:')
  return path === undefined ? undefined : `file:${path}`
}

export function parseUploads(text: string): 'direct' | 'proxy' | undefined {
  if (text === '') return undefined
  if (text !== 'direct' && text !== 'proxy') throw new Error(`"${text}" is not direct or proxy.`)
  return text
}

export function parseToken(text: string): string | undefined {
  if (text === '') return undefined
  if (!/^[\x21-\x7e]+$/.test(text)) throw new Error('must be printable ASCII characters without blanks.')
  return text
}

export function parseApiKey(text: string): string | undefined {
  if (text === '') return undefined
  if (!/^[\x21-\x7e]{8,512}$/.test(text)) throw new Error('must be 8 to 512 printable ASCII characters without blanks.')
  return text
}

export function parsePhoneNumbers(text: string): readonly string[] {
  const numbers = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  for (const number of numbers) {
    if (!E164.test(number)) throw new Error(`"${number}" is not in E.164 format, as +12025550100 is.`)
  }
  return [...new Set(numbers)]
}

export function parseDays(text: string): number {
  const days = Number(text)
  if (!/^\d{1,4}$/.test(text) || days < 1) throw new Error(`"${text}" is not a whole number of days from 1 to 9999.`)
  return days
}

export function parseLogLevel(text: string): (typeof LOG_LEVELS)[number] {
  const level = LOG_LEVELS.find((known) => known === text)
  if (!level) throw new Error(`"${text}" is not one of ${LOG_LEVELS.join(', ')}.`)
  return level
}
