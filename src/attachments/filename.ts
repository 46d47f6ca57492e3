/** Pure: what may be a file's name. */
import { Failure } from '../failure.ts'

const LONGEST = 255
/** Control characters, and the two separators that Unicode has for lines. */
const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}]/u

/**
 * The last path segment of what the caller gave: 1 to 255 characters in any language. Failure bad_parameter for control
 * characters, half surrogate pairs, and names that mean a folder.
 */
export function cleanFilename(given: string): string {
  if (given === '') throw new Failure('bad_parameter', 'filename must not be empty')
  if (CONTROLS.test(given) || !given.isWellFormed()) {
    throw new Failure('bad_parameter', 'filename must not hold control characters')
  }
  const name = given.split(/[/\\]/).at(-1) ?? ''
  if (name.trim() === '' || name === '.' || name === '..')
    throw new Failure('bad_parameter', 'filename must name a file')
  if ([...given].length > LONGEST)
    throw new Failure('bad_parameter', `filename must have at most ${LONGEST} characters`)
  return name
}

/** The name a file had in a URL; `attachment.<extension>` when the URL has none that could be kept. */
export function filenameFromUrl(url: string, extension: string): string {
  try {
    return cleanFilename(decodeURIComponent(new URL(url).pathname.split('/').at(-1) ?? ''))
  } catch {
    return `attachment.${extension}`
  }
}
