/**
 * Text that begins with `<`: SVG, HTML, XML, PHP, or a sentence. Declarations, comments and the DOCTYPE are stepped over in
 * any number and order, then the root element decides. Deliberately no XML parser: those fail on honest HTML and can be
 * made to eat memory; this walks once over the text with indexOf.
 */

export type Markup = 'svg' | 'html' | 'xml' | 'php' | 'text' | 'open'

const XHTML = 'http://www.w3.org/1999/xhtml'

const HTML_ELEMENTS = new Set(
  (
    'html head body title base link meta style script noscript template header footer main nav section article aside ' +
    'h1 h2 h3 h4 h5 h6 hgroup address p hr pre blockquote ol ul li dl dt dd figure figcaption div a em strong small s ' +
    'cite q dfn abbr ruby rb rt rp data time code var samp kbd sub sup i b u mark bdi bdo span br wbr ins del picture ' +
    'source img iframe embed object param video audio track map area table caption colgroup col tbody thead tfoot tr ' +
    'td th form label input button select datalist optgroup option textarea output progress meter fieldset legend ' +
    'details summary dialog center font frameset frame noframes marquee tt big strike'
  ).split(' '),
)

/**
 * `text` begins with `<`. `end` is how the file ends, to see whether the root element is closed there. `open`: the text
 * ends before its root element begins.
 */
export function classifyMarkup(text: string, end: string): Markup {
  let at = 0
  let hasProlog = false
  let doctype: string | undefined
  while (at < text.length) {
    at = skipBlanks(text, at)
    if (text.startsWith('<?', at)) {
      if (/^<\?(php|=)/i.test(text.slice(at, at + 6))) return 'php'
      hasProlog ||= /^<\?xml\b/i.test(text.slice(at, at + 6))
      at = after(text, '?>', at + 2)
    } else if (text.startsWith('<!--', at)) {
      at = after(text, '-->', at + 4)
    } else if (/^<!doctype\b/i.test(text.slice(at, at + 10))) {
      doctype ??= localName(/^\s*([^\s>[]*)/.exec(text.slice(at + 9, at + 300))?.[1] ?? '')
      at = afterDoctype(text, at + 9)
    } else break
    if (at < 0) return doctype === 'svg' ? 'svg' : 'open'
  }
  if (at >= text.length) return 'open'
  return classifyRoot(text, at, { hasProlog, doctype, end })
}

function classifyRoot(
  text: string,
  at: number,
  { hasProlog, doctype, end }: { hasProlog: boolean; doctype: string | undefined; end: string },
): Markup {
  const name = /^<([A-Za-z_][\w.:-]*)/.exec(text.slice(at, at + 300))?.[1]
  const local = name === undefined ? undefined : localName(name)
  if (local === 'svg' || doctype === 'svg') return 'svg'
  if (local === 'html' || doctype === 'html') return 'html'
  if (hasProlog) return 'xml'
  if (name === undefined || local === undefined) return 'text'
  const close = text.indexOf('>', at)
  const tag = text.slice(at, close < 0 ? at + 4096 : close + 1)
  const namespaces = [...tag.slice(0, 16_384).matchAll(/\bxmlns(?::[\w.-]+)?\s*=\s*["']([^"']*)["']/g)]
  if (namespaces.some(([, uri]) => uri !== XHTML)) return 'xml'
  if (HTML_ELEMENTS.has(local)) return 'html'
  const tail = withoutComments(end)
  const isClosed = tail.endsWith(`</${name}>`) || (tag.endsWith('/>') && tail.endsWith(tag))
  return isClosed ? 'xml' : 'text'
}

/** Behind the DOCTYPE, whose quotes, internal subset and comments in it may hold `>`; -1 when it does not end. */
function afterDoctype(text: string, from: number): number {
  let inSubset = false
  for (let i = from; i >= 0 && i < text.length; i++) {
    const letter = text[i]
    if (letter === '"' || letter === "'") {
      i = text.indexOf(letter, i + 1)
      if (i < 0) return -1
    } else if (letter === '<' && text.startsWith('<!--', i)) {
      i = after(text, '-->', i + 4) - 1
      if (i < 0) return -1
    } else if (letter === '[') inSubset = true
    else if (letter === ']') inSubset = false
    else if (letter === '>' && !inSubset) return i + 1
  }
  return -1
}

function withoutComments(end: string): string {
  let tail = end.trimEnd()
  for (let count = 0; count < 100 && tail.endsWith('-->'); count++) {
    tail = tail.slice(0, Math.max(0, tail.lastIndexOf('<!--'))).trimEnd()
  }
  return tail
}

function after(text: string, mark: string, from: number): number {
  const found = text.indexOf(mark, from)
  return found < 0 ? -1 : found + mark.length
}

function skipBlanks(text: string, from: number): number {
  let at = from
  while (at < text.length && text.charCodeAt(at) <= 32) at++
  return at
}

function localName(name: string): string {
  return name.slice(name.lastIndexOf(':') + 1).toLowerCase()
}
