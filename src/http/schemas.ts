/** Schemas and small translations that every room's wire.ts shares. */
import { type TSchema, Type } from 'typebox'

export const Uuid = Type.String({ format: 'uuid', examples: ['550e8400-e29b-41d4-a716-446655440000'] })
export const Time = Type.String({ format: 'date-time', examples: ['2026-02-16T12:30:00.000Z'] })
export const ServiceName = Type.Union([Type.Literal('iMessage'), Type.Literal('SMS'), Type.Literal('RCS')])
export const Nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])

/** A schema that was added to the API under its $id, for answers: documented once, referred to everywhere. */
export const Ref = <T>(id: string) => Type.Unsafe<T>({ $ref: `${id}#` })

export const ErrorBody = Type.Object(
  {
    success: Type.Literal(false),
    error: Type.Object({
      status: Type.Integer({ description: 'The HTTP status' }),
      code: Type.Integer({ description: 'What clients branch on', examples: [2003] }),
      message: Type.String({ description: 'For people; names the field' }),
      doc_url: Type.String(),
      retry_after: Type.Optional(Type.Integer({ description: 'Seconds; only with 429' })),
    }),
    trace_id: Type.String({ description: 'Also in X-Trace-ID' }),
  },
  { $id: 'Error' },
)

/** For `response:` of every route of the API. */
export const ERRORS = { '4xx': Ref('Error'), '5xx': Ref('Error') } as const

/** RFC 3339, UTC, milliseconds. */
export const iso = (ms: number): string => new Date(ms).toISOString()
export const isoOrNull = (ms: number | null): string | null => (ms === null ? null : iso(ms))
