/** Start, stop, configuration and the commands, as an operator meets them. */
import assert from 'node:assert/strict'
import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { Agent, type IncomingMessage, request } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ask, DATABASE, secretsOf } from '../support/database.ts'
import { databaseFor } from '../support/postgres.ts'
import { runCli, startServer } from '../support/satchel.ts'
import {
  createText,
  dial,
  download,
  filesIn,
  fixedPorts,
  modeOf,
  put,
  textOf,
  until,
  uploadText,
} from '../support/wire.ts'

const BIN = fileURLToPath(new URL('../../bin/satchel.js', import.meta.url))

let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'satchel-life-'))
})
after(() => rm(folder, { recursive: true, force: true }))

let count = 0
const newFolder = () => join(folder, `data ${++count}`)

/** `serve` that has to fail, on the database that goes with its data folder: the exit code and what was said, without the log. */
async function failingServe(env: Record<string, string>, rights: { uid?: number; gid?: number } = {}) {
  const { SATCHEL_DATA_DIR: dataDir } = env
  const database = dataDir === undefined ? undefined : await databaseFor(dataDir)
  const child = spawn(process.execPath, [BIN, 'serve'], {
    env: {
      PATH: process.env.PATH ?? '',
      SATCHEL_LOG_LEVEL: 'silent',
      ...(database ? { SATCHEL_DATABASE_URL: database } : {}),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 120_000,
    ...rights,
  })
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  assert.equal(stdout, '')
  return { code: child.exitCode, lines: stderr.trimEnd().split('\n') }
}

/** The files of the data folder that only its owner may read. */
const PRIVATE_FILES =
  DATABASE === 'SQLite' ? ['node-id', 'sandbox-api-key', 'satchel.sqlite', 'upload-signing-key'] : ['node-id']

const freePorts = { SATCHEL_PORT: '0', SATCHEL_CDN_PORT: '0' }

describe('SIGTERM', () => {
  test('lets an upload finish, refuses new connections meanwhile, and ends with 0', async () => {
    await using server = await startServer()
    const bytes = textOf(500_000)
    const client = server.client()
    const created = await createText(client, bytes.length)
    using wire = await dial(server.cdn)
    const { host, pathname, search } = new URL(created.upload_url)
    await wire.head(`PUT ${pathname}${search}`, { Host: host, ...created.required_headers })
    await wire.write(bytes.subarray(0, 100_000))
    await until('the upload is under way', async () => (await filesIn(server.dataDir, 'files/tmp')).length === 1)
    const stopped = server.stop()
    for (const origin of [server.api, server.cdn]) {
      await until(`${origin} is closed`, () =>
        dial(origin).then(
          (probe) => probe.socket.destroy() === undefined,
          () => true,
        ),
      )
    }
    assert.equal(server.process.exitCode, null)
    await wire.write(bytes.subarray(100_000))
    assert.equal((await wire.reply()).status, 200)
    const answered = Date.now()
    assert.equal(await stopped, 0)
    assert.ok(Date.now() - answered < 20_000, 'the end must not wait for an idle connection')
  })

  test('lets a download finish', async () => {
    await using server = await startServer()
    const bytes = textOf(8 * 1024 * 1024)
    const created = await uploadText(server.client(), bytes)
    const agent = new Agent({ keepAlive: true })
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request(created.download_url, { agent }, resolve).on('error', reject).end()
    })
    const stopped = server.stop()
    await sleep(300)
    const chunks: Buffer[] = []
    for await (const chunk of response) chunks.push(chunk as Buffer)
    assert.deepEqual(Buffer.concat(chunks), bytes)
    const finished = Date.now()
    assert.equal(await stopped, 0)
    assert.ok(Date.now() - finished < 20_000, 'the end must not wait for an idle connection')
    agent.destroy()
  })

  test('does not wait for idle connections', async () => {
    await using server = await startServer()
    const wires = await Promise.all([server.api, server.cdn, server.api, server.cdn].map((origin) => dial(origin)))
    for (const wire of wires.slice(0, 2)) {
      await wire.head('GET /healthz', { Host: 'localhost' })
      await wire.reply()
    }
    const began = Date.now()
    assert.equal(await server.stop(), 0)
    assert.ok(Date.now() - began < 20_000, `it took ${Date.now() - began} ms`)
    for (const wire of wires) wire.socket.destroy()
  })

  test('SIGINT does the same', async () => {
    await using server = await startServer()
    server.process.kill('SIGINT')
    const [code] = await once(server.process, 'exit')
    assert.equal(code, 0)
  })

  test('is followed by a start on the same folder without delay', async () => {
    const dataDir = newFolder()
    let served = ''
    for (let round = 0; round < 3; round++) {
      await using server = await startServer({ dataDir, env: await fixedPorts() })
      if (served) assert.equal((await fetch(new URL(new URL(served).pathname, server.cdn))).status, 200)
      served = (await uploadText(server.client(), Buffer.from('hello'))).download_url
    }
  })
})

describe('a start that cannot be', () => {
  test('twice on one data folder: one sentence that names SATCHEL_DATA_DIR, and 1', async () => {
    await using server = await startServer()
    const env = { ...freePorts, SATCHEL_DATA_DIR: server.dataDir }
    const { code, lines } = await failingServe({
      ...env,
      SATCHEL_DATABASE_URL: `sqlite:${join(server.dataDir, 'satchel.sqlite')}`,
    })
    assert.equal(code, 1)
    assert.deepEqual(lines, [`satchel: SATCHEL_DATA_DIR: another Satchel is running on ${server.dataDir}.`])
    assert.equal((await server.call('/v3/phone_numbers')).status, 200)
  })

  // Of SQLite there is one process; on PostgreSQL those that share a folder are nodes of one service.
  const runs = DATABASE === 'SQLite' ? 'exactly one runs' : 'all run, each with a spool of its own'
  test(`three times on one data folder at the same moment: ${runs}`, async () => {
    const dataDir = newFolder()
    const starts = await Promise.allSettled([1, 2, 3].map(() => startServer({ dataDir })))
    const running = starts.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []))
    const spools = (await readdir(dataDir)).filter((name) => name.startsWith('spool'))
    assert.equal(spools.length, running.length)
    const [first] = running
    assert.ok(first)
    const { attachment_id } = await uploadText(first.client(), Buffer.from('hello'))
    for (const server of running) {
      const { download_url = '' } = await server.client().attachments.retrieve(attachment_id)
      const { pathname } = new URL(download_url)
      assert.equal((await download(server.cdn + pathname)).toString(), 'hello')
    }
    for (const server of running) assert.equal(await server.stop(), 0)
    assert.equal(running.length, DATABASE === 'SQLite' ? 1 : 3)
    for (const start of starts) {
      if (start.status === 'rejected')
        assert.match(String(start.reason), /SATCHEL_DATA_DIR: another Satchel is running/)
    }
  })

  for (const variable of ['SATCHEL_PORT', 'SATCHEL_CDN_PORT'])
    test(`a port in use: one sentence that names ${variable}, and 1`, async () => {
      const taken = createServer().listen(0, '127.0.0.1')
      await once(taken, 'listening')
      const address = taken.address()
      const port = String(typeof address === 'object' ? address?.port : '')
      const { code, lines } = await failingServe({ ...freePorts, SATCHEL_DATA_DIR: newFolder(), [variable]: port })
      taken.close()
      assert.equal(code, 1)
      assert.equal(lines.length, 1)
      assert.match(lines[0] ?? '', new RegExp(`^satchel: ${variable}: port ${port} is in use on 127\\.0\\.0\\.1;`))
    })

  test('a host that is not of this machine: one sentence that names SATCHEL_HOST, and 1', async () => {
    const env = { ...freePorts, SATCHEL_DATA_DIR: newFolder(), SATCHEL_HOST: '192.0.2.1' }
    const { code, lines } = await failingServe(env)
    assert.deepEqual(
      { code, lines },
      { code: 1, lines: ['satchel: SATCHEL_HOST: 192.0.2.1 is not an address of this machine.'] },
    )
  })

  test('a data folder below a file: one sentence that names SATCHEL_DATA_DIR, and 1', async () => {
    const file = join(folder, 'a file')
    await writeFile(file, '')
    const { code, lines } = await failingServe({ ...freePorts, SATCHEL_DATA_DIR: join(file, 'data') })
    assert.equal(code, 1)
    assert.equal(lines.length, 1)
    assert.match(lines[0] ?? '', /^satchel: SATCHEL_DATA_DIR: ENOTDIR/)
  })

  test('a data folder of somebody else: one sentence that names SATCHEL_DATA_DIR, and 1', async () => {
    const closed = await mkdtemp(join(tmpdir(), 'satchel-closed-'))
    await chmod(closed, 0o555)
    // Root may write everywhere, so root's own test takes the rights of nobody.
    const isRoot = process.getuid?.() === 0
    const env = { ...freePorts, SATCHEL_DATA_DIR: closed }
    const { code, lines } = await failingServe(env, isRoot ? { uid: 65_534, gid: 65_534 } : {})
    await rm(closed, { recursive: true })
    assert.equal(code, 1)
    assert.match(lines.join('\n'), /^satchel: SATCHEL_DATA_DIR: [^\n]+$/)
  })

  test('a database that is not one: one sentence that names SATCHEL_DATABASE_URL, and 1', async () => {
    const file = join(folder, 'not a database')
    await writeFile(file, 'hello '.repeat(1000))
    const env = { ...freePorts, SATCHEL_DATA_DIR: newFolder(), SATCHEL_DATABASE_URL: `sqlite:${file}` }
    const { code, lines } = await failingServe(env)
    assert.equal(code, 1)
    assert.deepEqual(lines, ['satchel: SATCHEL_DATABASE_URL: file is not a database.'])
  })

  test('a secret that is empty: one sentence, instead of a new secret that ends all signed URLs', async () => {
    const dataDir = newFolder()
    const server = await startServer({ dataDir })
    await server.stop()
    if (DATABASE === 'SQLite') await writeFile(join(dataDir, 'upload-signing-key'), '')
    else await ask(server, `update secrets set value = '' where name = 'upload-signing-key' returning name`)
    const { code, lines } = await failingServe({ ...freePorts, SATCHEL_DATA_DIR: dataDir })
    assert.equal(code, 1)
    assert.match(
      lines.join('\n'),
      /^satchel: SATCHEL_DATA(_DIR|BASE_URL): the secret .*upload-signing-key is empty; [^\n]+$/,
    )
  })

  test('a phone number of another partner: one sentence that names SATCHEL_PHONE_NUMBERS, and 1', async () => {
    const dataDir = newFolder()
    const create = ['partners', 'create', '--name', 'other', '--phone', '+12025550150']
    assert.equal((await runCli(create, { SATCHEL_DATA_DIR: dataDir })).code, 0)
    const env = { ...freePorts, SATCHEL_DATA_DIR: dataDir, SATCHEL_PHONE_NUMBERS: '+12025550151,+12025550150' }
    const { code, lines } = await failingServe(env)
    assert.equal(code, 1)
    assert.deepEqual(lines, ['satchel: SATCHEL_PHONE_NUMBERS: +12025550150 belongs to another partner already.'])
  })
})

describe('configuration (the whole table is in src/config.test.ts)', () => {
  const bad: [string, string, RegExp][] = [
    ['SATCHEL_PORT', 'http', /not a port number/],
    ['SATCHEL_CDN_URL', 'https://cdn.example.com/?a=1', /not an http or https URL/],
    ['SATCHEL_STORAGE_URL', 'ftp://bucket', /must be file:PATH/],
    ['SATCHEL_API_KEY', 'short', /8 to 512 printable/],
    ['SATCHEL_API_KEY_FILE', '/dev/null', /SATCHEL_API_KEY_FILE names is empty/],
    ['SATCHEL_PROT', '1', /not a variable of Satchel/],
  ]
  for (const [name, value, says] of bad)
    test(`${name}=${value} is refused in one sentence, by serve and by config --print`, async () => {
      const env = { ...freePorts, SATCHEL_DATA_DIR: newFolder(), [name]: value }
      const { code, lines } = await failingServe(env)
      assert.equal(code, 1)
      assert.equal(lines.length, 1, lines.join('\n'))
      assert.match(lines[0] ?? '', new RegExp(`^satchel: ${name.replace('API_KEY_FILE', 'API_KEY')}\\b.+$`))
      assert.match(lines[0] ?? '', says)
      assert.ok(!existsSync(env.SATCHEL_DATA_DIR))
      assert.equal((await runCli(['config', '--print'], env)).code, 1)
    })

  test('all faults are told at once', async () => {
    const { code, lines } = await failingServe({
      SATCHEL_PORT: 'x',
      SATCHEL_HOST: '?',
      SATCHEL_LOG_LEVEL: 'loud',
      SATCHEL_NO: 'thing',
      SATCHEL_API_KEY: 'short',
    })
    assert.equal(code, 1)
    assert.equal(lines.length, 5)
    for (const name of ['SATCHEL_PORT', 'SATCHEL_HOST', 'SATCHEL_LOG_LEVEL', 'SATCHEL_NO', 'SATCHEL_API_KEY']) {
      assert.ok(
        lines.some((line) => line.startsWith(`satchel: ${name}`)),
        name,
      )
    }
  })

  test('two ports that are the same are a fault among the others', async () => {
    const env = { SATCHEL_PORT: '4010', SATCHEL_CDN_PORT: '4010', SATCHEL_LOG_LEVEL: 'loud' }
    const { lines } = await failingServe(env)
    assert.equal(lines.length, 2)
    assert.match(lines.join('\n'), /SATCHEL_CDN_PORT: must differ from SATCHEL_PORT/)
  })

  test('a secret both as a variable and as a file is refused', async () => {
    const file = join(folder, 'key')
    await writeFile(file, 'a-key-from-a-file\n')
    const { code, lines } = await failingServe({ SATCHEL_API_KEY: 'a-key-of-my-own', SATCHEL_API_KEY_FILE: file })
    assert.equal(code, 1)
    assert.match(lines.join('\n'), /set either SATCHEL_API_KEY or SATCHEL_API_KEY_FILE/)
  })

  test('SATCHEL_API_KEY_FILE gives the key, which is then printed nowhere and kept nowhere', async () => {
    const file = join(folder, 'key')
    await writeFile(file, 'a-key-from-a-file\n')
    await using server = await startServer({ env: { SATCHEL_API_KEY_FILE: file } })
    assert.equal((await server.call('/v3/phone_numbers', { apiKey: 'a-key-from-a-file' })).status, 200)
    assert.equal((await server.call('/v3/phone_numbers', { apiKey: 'a-key-from-another' })).status, 401)
    assert.deepEqual(Object.keys(await secretsOf(server)), ['upload-signing-key'])
    assert.ok(!server.log().includes('a-key-from-a-file'))
  })

  test('an empty variable counts as not set', async () => {
    await using server = await startServer({
      env: { SATCHEL_API_KEY: '', SATCHEL_PHONE_NUMBERS: '', SATCHEL_CDN_URL: '' },
    })
    assert.equal(server.phoneNumbers.length, 2)
  })

  test('config --print shows every variable and masks what is secret', async () => {
    const env = {
      SATCHEL_API_KEY: 'do-not-print-me',
      SATCHEL_DATABASE_URL: 'sqlite:/secret/path',
      SATCHEL_PORT: '1234',
    }
    const { code, stdout, stderr } = await runCli(['config', '--print'], env)
    assert.equal(code, 0, stderr)
    assert.match(stdout, /^SATCHEL_API_KEY=\(set\)$/m)
    assert.match(stdout, /^SATCHEL_PORT=1234$/m)
    assert.match(stdout, /^SATCHEL_HOST=127\.0\.0\.1 {2}\(default\)$/m)
    const paper = await readFile(new URL('../../docs/operate.md', import.meta.url), 'utf8')
    const told = [...paper.matchAll(/^\| `(SATCHEL_\w+)`/gm)].map(([, name]) => name)
    const printed = [...stdout.matchAll(/^(SATCHEL_\w+)=/gm)].map(([, name]) => name)
    assert.deepEqual(printed.sort(), told.sort(), 'the paper and the program name the same variables')
    assert.doesNotMatch(stdout + stderr, /do-not-print-me|secret\/path/)
    assert.equal((await runCli(['config'], {})).code, 2)
  })
})

describe('what is made at the first start', () => {
  test('secrets are private, the same after a restart, and good for URLs signed before it', async () => {
    const dataDir = newFolder()
    const env = await fixedPorts()
    const first = await startServer({ dataDir, env })
    for (const name of PRIVATE_FILES) assert.equal(await modeOf(join(dataDir, name)), 0o600, name)
    for (const name of ['.', 'files', 'files/objects', 'files/packs', 'files/tmp', 'spool']) {
      assert.equal((await modeOf(join(dataDir, name))) & 0o077, 0, name)
    }
    const kept = await secretsOf(first)
    assert.deepEqual(Object.keys(kept), ['sandbox-api-key', 'upload-signing-key'])
    const created = await createText(first.client(), 5)
    await first.stop()

    await using second = await startServer({ dataDir, env })
    assert.deepEqual(await secretsOf(second), kept)
    assert.equal(second.apiKey, first.apiKey)
    assert.deepEqual(second.phoneNumbers, first.phoneNumbers)
    assert.equal((await put(created, 'hello')).status, 200)
    assert.equal((await download(created.download_url)).toString(), 'hello')
  })

  test('a secret that became readable for others is made private again', async () => {
    const dataDir = newFolder()
    await (await startServer({ dataDir })).stop()
    const secrets = PRIVATE_FILES.filter((name) => name !== 'satchel.sqlite')
    for (const name of secrets) await chmod(join(dataDir, name), 0o644)
    await using _ = await startServer({ dataDir })
    for (const name of secrets) assert.equal(await modeOf(join(dataDir, name)), 0o600, name)
  })

  test('two phone numbers of the range for fiction, or the ones that were asked for', async () => {
    {
      await using server = await startServer()
      assert.equal(server.phoneNumbers.length, 2)
      for (const number of server.phoneNumbers) assert.match(number, /^\+1202555\d{4}$/)
      assert.equal(new Set(server.phoneNumbers).size, 2)
    }
    await using server = await startServer({ env: { SATCHEL_PHONE_NUMBERS: '+4915112345678, +12025550123' } })
    assert.deepEqual(server.phoneNumbers, ['+4915112345678', '+12025550123'])
  })
})

describe('folders', () => {
  test('what a crash left behind in tmp and spool is gone after the start', async () => {
    const dataDir = newFolder()
    await (await startServer({ dataDir })).stop()
    await writeFile(join(dataDir, 'files/tmp/left'), 'over')
    await writeFile(join(dataDir, 'spool/left'), 'over')
    await using _ = await startServer({ dataDir })
    assert.deepEqual(await filesIn(dataDir, 'files/tmp'), [])
    assert.deepEqual(await filesIn(dataDir, 'spool'), [])
  })

  test('a storage outside the data folder may be shared, so what is under way in it is left alone', async () => {
    const dataDir = newFolder()
    const shared = `${dataDir}-shared`
    await mkdir(join(shared, 'tmp'), { recursive: true })
    await writeFile(join(shared, 'tmp/under-way'), 'half')
    await using server = await startServer({ dataDir, env: { SATCHEL_STORAGE_URL: `file:${shared}` } })
    assert.ok(existsSync(join(shared, 'tmp/under-way')))
    const created = await uploadText(server.client(), Buffer.from('hello'))
    assert.equal((await download(created.download_url)).toString(), 'hello')
  })
})

describe('behind a proxy', () => {
  const publicUrls = {
    SATCHEL_PUBLIC_URL: 'https://api.example.com/',
    SATCHEL_CDN_URL: 'https://cdn.example.com/satchel',
  }

  test('both ports are open, and the URLs that callers get are the public ones', async () => {
    const ports = await fixedPorts()
    await using server = await startServer({ env: { ...ports, ...publicUrls } })
    assert.equal(server.api, 'https://api.example.com')
    const body = JSON.stringify({ filename: 'a.txt', content_type: 'text/plain', size_bytes: 5 })
    const headers = { authorization: `Bearer ${server.apiKey}`, 'content-type': 'application/json' }
    const made = await fetch(`http://127.0.0.1:${ports.SATCHEL_PORT}/v3/attachments`, { method: 'POST', headers, body })
    assert.equal(made.status, 200)
    const { upload_url, download_url, required_headers } = (await made.json()) as {
      upload_url: string
      download_url: string
      required_headers: Record<string, string>
    }
    assert.ok(upload_url.startsWith('https://cdn.example.com/satchel/uploads/'), upload_url)
    assert.ok(download_url.startsWith('https://cdn.example.com/satchel/attachments/partners/'), download_url)

    // A proxy that forwards /satchel/… as /… and, as many do, says Host as it knows the server.
    const inside = (url: string) =>
      `http://127.0.0.1:${ports.SATCHEL_CDN_PORT}${url.slice(publicUrls.SATCHEL_CDN_URL.length)}`
    const stored = await fetch(inside(upload_url), { method: 'PUT', headers: required_headers, body: 'hello' })
    assert.equal(stored.status, 200, await stored.text())
    assert.equal((await download(inside(download_url))).toString(), 'hello')
  })
})

describe('commands', () => {
  test('partners create gives a key that works at once while the server runs, and partners list shows the partner', async () => {
    await using server = await startServer()
    const create = [
      'partners',
      'create',
      '--name',
      'Acme',
      '--phone',
      '+12025550160',
      '--phone',
      '+12025550161',
      '--json',
    ]
    const { code, stdout, stderr } = await runCli(create, server.env)
    assert.equal(code, 0, stderr)
    const made = JSON.parse(stdout) as { partner_id: string; api_key: string; phone_numbers: string[] }
    assert.deepEqual(made.phone_numbers, ['+12025550160', '+12025550161'])
    const own = server.client({ apiKey: made.api_key })
    const created = await uploadText(own, Buffer.from('hello'))
    assert.ok(created.download_url.includes(made.partner_id))
    await assert.rejects(server.client().attachments.retrieve(created.attachment_id), { status: 404 })

    const list = await runCli(['partners', 'list', '--json'], server.env)
    const partners = JSON.parse(list.stdout) as { partner_id: string; name: string; phone_numbers: string[] }[]
    assert.deepEqual(
      partners.map(({ name, phone_numbers }) => ({ name, phone_numbers })),
      [
        { name: 'sandbox', phone_numbers: [...server.phoneNumbers] },
        { name: 'Acme', phone_numbers: made.phone_numbers },
      ],
    )
    assert.ok(!list.stdout.includes(made.api_key))
    assert.match((await runCli(['partners', 'list'], server.env)).stdout, /Acme {2}\+12025550160, \+12025550161/)

    const again = await runCli(create, server.env)
    assert.equal(again.code, 1)
    assert.match(again.stderr, /^satchel: \+12025550160 belongs to another partner already\n$/)
  })

  test('migrate makes the schema once, and the second time says that it is up to date', async () => {
    const env = { SATCHEL_DATA_DIR: newFolder() }
    const first = await runCli(['migrate'], env)
    assert.equal(first.code, 0, first.stderr)
    assert.match(first.stdout, /^Migrated: 0001-/)
    const second = await runCli(['migrate'], env)
    assert.deepEqual({ code: second.code, stdout: second.stdout }, { code: 0, stdout: 'The schema is up to date.\n' })
    await using server = await startServer({ dataDir: env.SATCHEL_DATA_DIR })
    assert.equal((await runCli(['migrate'], server.env)).stdout, 'The schema is up to date.\n')
  })

  test('an unknown command or option ends with 2 and a sentence', async () => {
    for (const args of [['fly'], ['serve', '--fast'], ['partners', 'create', '--colour', 'red'], ['__proto__']]) {
      const { code, stdout, stderr } = await runCli(args)
      assert.equal(code, 2, stderr)
      assert.equal(stdout, '')
      assert.match(stderr, /^satchel: [^\n]+--help\n$/)
    }
    assert.equal((await runCli(['partners'])).code, 2)
    assert.equal((await runCli(['partners', 'create', '--name', 'x', '--phone', '123'])).code, 2)
  })

  test('--help and --version end with 0', async () => {
    assert.match((await runCli(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/)
    for (const args of [
      [],
      ['--help'],
      ['serve', '--help'],
      ['migrate', '--help'],
      ['partners', '--help'],
      ['config', '--help'],
    ]) {
      const { code, stdout, stderr } = await runCli(args)
      assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
      assert.match(stdout, /satchel/)
    }
  })

  test('an old Node gets one sentence', async () => {
    const old = await oldNode()
    const { status, stderr, stdout } = spawnSync(old.command, [...old.args, BIN, 'serve'], { encoding: 'utf8' })
    assert.equal(status, 1)
    assert.equal(stdout, '')
    assert.match(stderr, /^Satchel needs Node 22\.\d+ or newer, and this is \d+\.\d+\.\d+: [^\n]+\n$/)
  })
})

/** A Node before 22, found on this machine, or this one made to say that it is old. */
async function oldNode(): Promise<{ command: string; args: string[] }> {
  for (const command of ['/usr/bin/node', '/usr/local/bin/node']) {
    const version = await new Promise<string>((resolve) =>
      execFile(command, ['--version'], (_, stdout) => resolve(stdout)),
    )
    const major = Number(/^v(\d+)\./.exec(version)?.[1] ?? 99)
    if (major < 22) return { command, args: [] }
  }
  const disguise = join(folder, 'old.cjs')
  await writeFile(
    disguise,
    `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.20.2' } })`,
  )
  return { command: process.execPath, args: ['--require', disguise] }
}
