/**
 * Pure: the rules of message content that a schema cannot say (contract 3.3). Each broken rule is a Failure that names its
 * field; bad_message (1004) unless the contract gives another code.
 */
import { Failure } from '../failure.ts'
import type { MessageContent, PartIn } from './wire.ts'

const STYLES = ['bold', 'italic', 'strikethrough', 'underline']
const ANIMATIONS = ['big', 'small', 'shake', 'nod', 'explode', 'ripple', 'bloom', 'jitter']
const EFFECTS = new Map([
  [
    'screen',
    [
      'confetti',
      'fireworks',
      'lasers',
      'sparkles',
      'celebration',
      'hearts',
      'love',
      'balloons',
      'happy_birthday',
      'echo',
      'spotlight',
    ],
  ],
  ['bubble', ['slam', 'loud', 'gentle', 'invisible']],
])
const COMMON_TLDS =
  'com|net|org|edu|gov|io|co|app|dev|ai|info|biz|xyz|shop|store|online|site|tech|cloud|link|me|ly|gg|tv|uk|de|fr|ca|au|eu'
const LINKS = [
  /\bhttps?:\/\/[^\s]/i,
  /(?<![\w.@-])www\.[a-z0-9]/i,
  new RegExp(`(?<![\\w.@-])(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\\.)+(?:${COMMON_TLDS})(?![\\w@-])`, 'i'),
]

type TextIn = Extract<PartIn, { type: 'text' }>
type MediaIn = Extract<PartIn, { type: 'media' }>

export function checkContent({ parts, effect }: MessageContent): void {
  if (parts.some((part) => part.type === 'imessage_app')) {
    throw new Failure('feature_unavailable', 'message.parts: imessage_app parts cannot be sent from here')
  }
  parts.forEach((part, index) => {
    const field = `message.parts[${index}]`
    if (part.type === 'link') checkLink(part.value, field, parts.length)
    if (part.type === 'media') checkMedia(part, field)
    if (part.type === 'text') {
      if (parts[index - 1]?.type === 'text') refuse(`${field}: two text parts must not be neighbours`)
      checkDecorations(part, field)
    }
  })
  if (effect && !EFFECTS.get(effect.type)?.includes(effect.name)) {
    throw new Failure('bad_parameter', 'message.effect must be a screen or bubble effect with a known name')
  }
}

/** A new chat must not begin with a link, neither as a part nor inside a text. */
export function checkFirstMessage({ parts }: MessageContent): void {
  parts.forEach((part, index) => {
    if (part.type === 'link' || (part.type === 'text' && hasLink(part.value))) {
      throw new Failure('bad_parameter', `message.parts[${index}]: the first message of a chat must not hold a link`)
    }
  })
}

/** What counts as a link in a text: a URL, `www.`, or a bare domain under a common ending; an e-mail address does not. */
export function hasLink(text: string): boolean {
  return LINKS.some((pattern) => pattern.test(text))
}

function checkLink(value: string, field: string, count: number): void {
  if (count > 1) refuse(`${field}: a link must be the only part`)
  const url = URL.parse(value)
  if (!url || !['http:', 'https:'].includes(url.protocol))
    refuse(`${field}.value must be an absolute http or https URL`)
}

function checkMedia(part: MediaIn, field: string): void {
  if ((part.url === undefined) === (part.attachment_id === undefined)) {
    refuse(`${field} must have exactly one of url and attachment_id`)
  }
}

function checkDecorations({ value, text_decorations }: TextIn, field: string): void {
  const decorations = text_decorations ?? []
  decorations.forEach(({ range, style, animation }, index) => {
    const name = `${field}.text_decorations[${index}]`
    const [start = 0, end = 0] = range
    if (!(0 <= start && start < end && end <= value.length)) refuse(`${name}.range must lie within the text`)
    if ((style === undefined) === (animation === undefined))
      refuse(`${name} must have exactly one of style and animation`)
    if (style !== undefined && !STYLES.includes(style)) refuse(`${name}.style must be one of ${STYLES.join(', ')}`)
    if (animation !== undefined && !ANIMATIONS.includes(animation)) {
      refuse(`${name}.animation must be one of ${ANIMATIONS.join(', ')}`)
    }
  })
  checkOverlap(decorations, field)
}

/** Animations overlap nothing; styles may overlap styles. One pass over the ranges in order of their start. */
function checkOverlap(decorations: NonNullable<TextIn['text_decorations']>, field: string): void {
  const ranges = decorations
    .map(({ range: [start = 0, end = 0], animation }) => ({ start, end, animated: animation !== undefined }))
    .sort((a, b) => a.start - b.start)
  let end = 0
  let animatedEnd = 0
  for (const range of ranges) {
    if (range.start < animatedEnd || (range.animated && range.start < end)) {
      refuse(`${field}.text_decorations: an animation must not overlap anything`)
    }
    end = Math.max(end, range.end)
    if (range.animated) animatedEnd = Math.max(animatedEnd, range.end)
  }
}

function refuse(message: string): never {
  throw new Failure('bad_message', message)
}
