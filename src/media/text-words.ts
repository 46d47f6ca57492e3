/**
 * Text formats that are told by how they begin and are not on the list: PostScript, JSON, batch files, registry files,
 * mail and a few more. Bytes cannot tell Markdown, logs or source code from a plain text, so those stay text.
 */

/** `inertAsText`: harmless when the caller says it is plain text, so it may pass as that. */
export type Words = { readonly key: string; readonly inertAsText: boolean }

const BEGINNINGS: readonly (readonly [RegExp, string, boolean])[] = [
  [/^%!PS/, 'ps', false],
  [/^%FDF-/, 'fdf', false],
  [/^!<arch>/, 'ar', false],
  [/^SIMPLE {2}=/, 'fits', false],
  [/^-----BEGIN PGP/, 'pgp', false],
  [/^@(echo (off|on)|rem|setlocal|if|set|call|cls|title|start|cd)\b/i, 'bat', false],
  [/^(Windows Registry Editor|REGEDIT4)/, 'reg', true],
  [/^\[InternetShortcut\]/i, 'shortcut', true],
  [/^\[Desktop Entry\]/, 'desktop', true],
  [/^WEBVTT(?=[ \t\r\n]|$)/, 'vtt', true],
]

const HEADER_LINE = /^[A-Za-z][A-Za-z0-9-]*:/
const TRANSPORT =
  /^(received|return-path|message-id|mime-version|delivered-to|x-received|dkim-signature|list-unsubscribe):/i
const LETTERHEAD = /^(from|to|subject|date):/i
const MBOX = /^From \S+ +(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) /

/** `text` without BOM and leading blanks. undefined: none of these. */
export function classifyWords(text: string, isWhole: boolean): Words | undefined {
  for (const [pattern, key, inertAsText] of BEGINNINGS) if (pattern.test(text)) return { key, inertAsText }
  if ((text.startsWith('{') || text.startsWith('[')) && isJson(text, isWhole)) return { key: 'json', inertAsText: true }
  if (MBOX.test(text)) return { key: 'mbox', inertAsText: true }
  return isMail(text) ? { key: 'eml', inertAsText: true } : undefined
}

/** One value, or one object per line. Text that goes on behind the head is JSON when all that was read of it is. */
function isJson(text: string, isWhole: boolean): boolean {
  if (!isWhole && isJsonPrefix(text)) return true
  if (isWhole && parses(text)) return true
  const lines = text.split(/\r?\n/, 4).filter((line) => line.trim() !== '')
  const whole = isWhole ? lines : lines.slice(0, -1)
  return whole.length >= 2 && whole.slice(0, 2).every((line) => line.trimStart().startsWith('{') && parses(line))
}

function parses(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** Nothing but JSON tokens up to the cut, which may lie inside one, and more than a lone bracket. */
function isJsonPrefix(text: string): boolean {
  const token = /\s*(?:[{}[\],:]|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)/y
  let end = 0
  while (token.test(text)) end = token.lastIndex
  const rest = text.slice(end).trimStart()
  return end > 1 && (rest.startsWith('"') || rest.length < 64)
}

/** All lines before the first blank one are mail headers, one of them of the kind only a mail program writes. */
function isMail(text: string): boolean {
  const [block = ''] = text.split(/\r?\n\r?\n/, 1)
  if (!HEADER_LINE.test(block)) return false
  const lines = block.split(/\r?\n/)
  return (
    lines.every((line) => HEADER_LINE.test(line) || /^[ \t]/.test(line)) &&
    lines.some((line) => TRANSPORT.test(line)) &&
    lines.some((line) => LETTERHEAD.test(line))
  )
}
