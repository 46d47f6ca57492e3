import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { jpeg, png, refusedFiles, wav } from '../../test/fixtures/media/files.ts'
import { check } from './check.ts'

let folder = ''
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'satchel-check-'))
})
after(() => rm(folder, { recursive: true }))

async function run(...args: string[]) {
  const result = { code: 0, stdout: '', stderr: '' }
  result.code = await check(args, {
    stdout: (text) => {
      result.stdout += text
    },
    stderr: (text) => {
      result.stderr += text
    },
  })
  return result
}

async function save(name: string, content: Uint8Array | string): Promise<string> {
  await writeFile(join(folder, name), content)
  return join(folder, name)
}

test('a good file is reported line by line and the exit code is 0', async () => {
  const path = await save('photo.png', png(30, 20))
  const { code, stdout, stderr } = await run(path)
  assert.equal(code, 0)
  assert.equal(stderr, '')
  assert.equal(
    stdout,
    [
      path,
      '  extension  .png (image/png)',
      '  declared   not given',
      '  content    PNG (image/png)',
      `  size       ${png(30, 20).length} bytes`,
      '  dimensions 30 × 20 pixels',
      '  upload     accepted as image/png',
      '  by URL     accepted as image/png',
      '',
    ].join('\n'),
  )
})

test('one refused file makes the exit code 1 and says why', async () => {
  const good = await save('good.wav', wav(2))
  const bad = await save('bad.png', refusedFiles()['image.webp']?.[0] ?? '')
  const { code, stdout } = await run(good, bad)
  assert.equal(code, 1)
  assert.match(stdout, /duration {3}2 s/)
  assert.match(stdout, /upload {5}refused, 5004 bad file type\n {13}bad\.png is a WebP image; WebP is not supported\./)
})

test('--declared is held against the content', async () => {
  const path = await save('photo.jpg', jpeg())
  const { code, stdout } = await run('--declared', 'image/png', path)
  assert.equal(code, 1)
  assert.match(stdout, /declared {3}image\/png\n/)
  assert.match(stdout, /upload {5}refused, 5006 content mismatch/)
  assert.match(stdout, /by URL {5}accepted as image\/jpeg/)
})

test('--json prints an array of reports with the limits', async () => {
  const path = await save('photo.jpeg', jpeg(64, 48))
  const { code, stdout } = await run(path, '--json')
  assert.equal(code, 0)
  assert.deepEqual(JSON.parse(stdout), [
    {
      filename: 'photo.jpeg',
      extension: 'jpeg',
      extensionType: 'image/jpeg',
      detected: 'image/jpeg',
      content: 'JPEG',
      sizeBytes: jpeg().length,
      width: 64,
      height: 48,
      upload: { accepted: true, contentType: 'image/jpeg' },
      url: { accepted: true, contentType: 'image/jpeg' },
      limits: { uploadBytes: 104_857_600, urlBytes: 10_485_760 },
    },
  ])
})

test('the limits are 10 MB by URL and 100 MB as an upload, and exactly the limit is allowed', async () => {
  for (const [size, upload, url] of [
    [10_485_760, true, true],
    [10_485_761, true, false],
    [104_857_600, true, false],
    [104_857_601, false, false],
  ] as const) {
    const path = await save('large.png', png())
    await truncate(path, size)
    const { code, stdout } = await run(path, '--json')
    const [report] = JSON.parse(stdout)
    assert.equal(report.upload.accepted, upload, `upload of ${size}`)
    assert.equal(report.url.accepted, url, `url of ${size}`)
    assert.equal(code, upload ? 0 : 1)
    if (!url) assert.equal(report.url.code, 5005)
  }
})

test('an extension that is refused by name is told although the content is fine', async () => {
  const { code, stdout } = await run(await save('photo.webp', jpeg()))
  assert.equal(code, 1)
  assert.match(stdout, /\.webp \(not a supported type\)/)
  assert.match(stdout, /Its content is JPEG: name it \.jpg/)
})

test('a missing file, a folder and an unreadable file get a clear sentence, and the others are still checked', async () => {
  const good = await save('a.png', png())
  const locked = await save('locked.png', png())
  await chmod(locked, 0)
  const { code, stdout, stderr } = await run(join(folder, 'none.png'), folder, locked, good)
  assert.match(stderr, /none\.png does not exist\n/)
  assert.match(stderr, /is a folder; name the files in it\n/)
  if (process.getuid?.() !== 0) assert.match(stderr, /locked\.png may not be read by this user\n/)
  assert.match(stdout, /accepted as image\/png/)
  assert.equal(code, 2)
})

test('a wrong command line is answered with what is wrong, and --help with the usage', async () => {
  assert.deepEqual(await run('--bogus'), {
    code: 2,
    stdout: '',
    stderr: "satchel check: Unknown option '--bogus'. See satchel check --help\n",
  })
  assert.match((await run()).stderr, /name at least one file/)
  const help = await run('--help')
  assert.equal(help.code, 0)
  assert.match(help.stdout, /^Usage: satchel check FILE/)
})
