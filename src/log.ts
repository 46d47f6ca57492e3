/**
 * JSON lines on standard error. Never a secret, a body, a signed URL or a phone number's message: the redaction below is
 * the second fence, not the first.
 */
import { type Logger, pino } from 'pino'
import type { Config } from './config.ts'

export type Log = Logger

export function openLog(level: Config['logLevel']): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: ['authorization', 'headers.authorization', '*.authorization'],
    },
    pino.destination({ fd: 2, sync: true }),
  )
}
