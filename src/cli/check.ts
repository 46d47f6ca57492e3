/**
 * `satchel check`: looks at files the way the server would and says what would happen to them, before anyone sends them.
 * Reads by ranges, so a film of 100 MB costs no more than a note. Exit code 1 when an upload of any file would be refused.
 */

import { type FileHandle, open } from 'node:fs/promises'
import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import type { Bytes } from '../media/bytes.ts'
import { type Answer, type FileReport, reportOn } from '../media/report.ts'
import { findDeclaredType, UPLOAD_LIMIT_BYTES, URL_LIMIT_BYTES } from '../media/types.ts'

const HELP = `Usage: satchel check FILE... [--declared TYPE] [--json]

Says for each file what it is, judged by its bytes, and whether it would be accepted
as an upload (up to 100 MB) and by URL (up to 10 MB).

  --declared TYPE  the content type the upload would be created with, e.g. image/png;
                   without it, the type that belongs to the file's extension
  --json           print the reports as a JSON array
  --help           print this

Exit code: 0 all would be accepted as uploads, 1 at least one would be refused,
2 a file could not be read or the command was not understood.
`

type Output = { stdout: (text: string) => void; stderr: (text: string) => void }

export async function check(argv: string[], out: Output): Promise<number> {
  const options = readOptions(argv)
  if (typeof options === 'string') {
    out.stderr(`satchel check: ${options}\n`)
    return 2
  }
  if (options.help) {
    out.stdout(HELP)
    return 0
  }
  const reports: FileReport[] = []
  let unreadable = 0
  for (const path of options.files) {
    const result = await checkFile(path, options.declared)
    if (typeof result === 'string') {
      unreadable++
      out.stderr(`satchel check: ${result}\n`)
    } else {
      reports.push(result)
      if (!options.json) out.stdout(`${reports.length > 1 ? '\n' : ''}${print(path, result)}`)
    }
  }
  if (options.json) out.stdout(`${JSON.stringify(reports.map(withLimits), null, 2)}\n`)
  if (unreadable > 0) return 2
  return reports.every((report) => report.upload.accepted) ? 0 : 1
}

type Options = { files: string[]; declared?: string; json: boolean; help: boolean }

/** A string says what is wrong with the command line. */
function readOptions(argv: string[]): Options | string {
  try {
    const { values, positionals } = parseArgs({
      args: argv,
      allowPositionals: true,
      options: { declared: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    })
    const { declared, json = false, help = false } = values
    if (!help && positionals.length === 0) return 'name at least one file. See satchel check --help'
    return { files: positionals, json, help, ...(declared !== undefined && { declared }) }
  } catch (error) {
    return `${(error as Error).message.split('. ')[0]}. See satchel check --help`
  }
}

async function checkFile(path: string, declared: string | undefined): Promise<FileReport | string> {
  let handle: FileHandle | undefined
  try {
    handle = await open(path)
    const stat = await handle.stat()
    if (stat.isDirectory()) return `${path} is a folder; name the files in it`
    if (!stat.isFile()) return `${path} is not a regular file`
    return await reportOn(bytesOf(handle, stat.size), { filename: basename(path), ...(declared && { declared }) })
  } catch (error) {
    return explain(path, error as NodeJS.ErrnoException)
  } finally {
    await handle?.close()
  }
}

function bytesOf(handle: FileHandle, size: number): Bytes {
  return {
    size,
    read: async (offset, length) => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, offset)
      return buffer.subarray(0, bytesRead)
    },
  }
}

function explain(path: string, error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT') return `${path} does not exist`
  if (error.code === 'EISDIR') return `${path} is a folder; name the files in it`
  if (error.code === 'EACCES' || error.code === 'EPERM') return `${path} may not be read by this user`
  return `${path} could not be read: ${error.message}`
}

function print(path: string, report: FileReport): string {
  const { width, height, durationSeconds, declared, extension } = report
  const rows: [string, string][] = [
    ['extension', extension === '' ? 'none' : `.${extension} (${report.extensionType ?? 'not a supported type'})`],
    [
      'declared',
      declared === undefined ? 'not given' : `${declared}${findDeclaredType(declared) ? '' : ' (not supported)'}`,
    ],
    ['content', report.detected === undefined ? report.content : `${report.content} (${report.detected})`],
    ['size', `${report.sizeBytes.toLocaleString('en')} bytes`],
  ]
  if (width !== undefined) rows.push(['dimensions', `${width} × ${height} pixels`])
  if (durationSeconds !== undefined) rows.push(['duration', `${durationSeconds} s`])
  rows.push(['upload', printAnswer(report.upload)], ['by URL', printAnswer(report.url)])
  return [path, ...rows.map(([label, value]) => `  ${label.padEnd(11)}${value}`), ''].join('\n')
}

function printAnswer(answer: Answer): string {
  if (answer.accepted) return `accepted as ${answer.contentType}`
  return `refused, ${answer.code} ${answer.failure.replaceAll('_', ' ')}\n${' '.repeat(13)}${answer.message}`
}

function withLimits(report: FileReport) {
  return { ...report, limits: { uploadBytes: UPLOAD_LIMIT_BYTES, urlBytes: URL_LIMIT_BYTES } }
}
