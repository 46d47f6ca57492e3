/** Turns what the schema check found into the contract's codes, with the offending field named as a caller would write it. */
import type { FastifySchemaValidationError } from 'fastify'
import { Failure } from '../failure.ts'

export function validationFailure(
  error: FastifySchemaValidationError | undefined,
  context: string | undefined,
): Failure {
  if (!error) return new Failure('bad_parameter')
  const field = fieldName(error.instancePath)
  const inParts = error.instancePath.startsWith('/message/parts') && context === 'body'
  if (error.instancePath === '' && error.keyword === 'type')
    return new Failure('bad_body', 'The body must be a JSON object')
  if (error.keyword === 'required') {
    const missing = join(field, String(error.params.missingProperty))
    return new Failure(inParts ? 'bad_message' : 'missing_field', `Missing required field: ${missing}`)
  }
  const name = field === '' ? (context ?? 'body') : field
  return new Failure(inParts ? 'bad_message' : 'bad_parameter', `${name} ${complaint(error, context)}`)
}

function complaint(error: FastifySchemaValidationError, context: string | undefined): string {
  const { params } = error
  switch (error.keyword) {
    case 'discriminator':
      return `must have a type that is one of ${PART_TYPES}`
    case 'enum':
      return `must be one of ${(params.allowedValues as unknown[]).join(', ')}`
    case 'const':
      return `must be ${params.allowedValue}`
    case 'format':
      return `must be a valid ${params.format === 'uuid' ? 'UUID' : params.format}`
    case 'minLength':
      return params.limit === 1 ? 'must not be empty' : `must have at least ${params.limit} characters`
    case 'maxLength':
      return `must have at most ${params.limit} characters`
    case 'minItems':
      return `must have at least ${params.limit} item${params.limit === 1 ? '' : 's'}`
    case 'maxItems':
      return `must have at most ${params.limit} items`
    case 'type':
      // Whatever a query says is a string, unless it says it twice.
      if (context === 'querystring') return 'must be given once'
      return `must be ${/^[aeiou]/.test(String(params.type)) ? 'an' : 'a'} ${params.type}`
    default:
      return error.message ?? 'is not valid'
  }
}

const PART_TYPES = 'text, media, link, imessage_app'

/** /message/parts/0/value -> message.parts[0].value */
function fieldName(pointer: string): string {
  return pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce(join, '')
}

export function join(path: string, step: string): string {
  if (/^\d+$/.test(step)) return `${path}[${step}]`
  return path === '' ? step : `${path}.${step}`
}
