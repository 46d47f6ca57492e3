/** What only files can show: how small objects lie, what is left of failures and crashes, and how room is given back. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { after, afterEach, beforeEach, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { smallObjectsConformance } from './conformance-small.ts'
import { type Disk, openDisk } from './disk.ts'

const run = promisify(execFile)
const HOUR = 3_600_000
const HEADER_BYTES = 20

const folders: string[] = []
async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'satchel-packs-'))
  folders.push(folder)
  return folder
}
after(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true })
})

smallObjectsConformance('small objects of a disk', async () => {
  const storage = await openDisk(await newFolder(), { exclusive: true })
  return { storage, close: () => storage.small.close() }
})

describe('packs', () => {
  let folder: string
  let storage: Disk
  let now: number
  beforeEach(async () => {
    folder = await newFolder()
    now = Date.now()
    storage = await openDisk(folder, { exclusive: true, now: () => now })
  })
  afterEach(() => storage.small.close())

  const packs = async () => (await readdir(join(folder, 'packs'))).sort()
  const pathOf = (key: string) => join(folder, key.split('/').slice(0, 2).join('/').replace('pack/', 'packs/'))
  const offsetOf = (key: string) => Number(/(\d{10})-/.exec(key)?.[1])
  const read = async (key: string, from: Disk = storage) => {
    const body = await from.get(key)
    return body && (await buffer(body))
  }
  const keysOf = async (from: Disk = storage) => {
    const keys: string[] = []
    for await (const { key } of from.list()) keys.push(key)
    return keys
  }
  const offered = async (answer = false) => {
    const found: string[][] = []
    await storage.small.compact(async (keys) => {
      found.push([...keys])
      return answer
    }, AbortSignal.timeout(60_000))
    return found
  }

  test('lie one behind the other in a private file, whose name begins with the time', async () => {
    const bodies = [randomBytes(10), randomBytes(0), randomBytes(5_000)]
    const keys = []
    for (const body of bodies) keys.push(await storage.small.append(body))
    const [name = '', ...others] = await packs()
    assert.deepEqual(others, [])
    assert.equal(Number.parseInt(name.slice(0, 12), 16), now)
    assert.deepEqual(keys, [
      `pack/${name}/0000000000-000010`,
      `pack/${name}/0000000030-000000`,
      `pack/${name}/0000000050-005000`,
    ])
    assert.equal((await stat(join(folder, 'packs'))).mode & 0o777, 0o700)
    assert.equal((await stat(join(folder, 'packs', name))).mode & 0o777, 0o600)
    assert.equal((await stat(join(folder, 'packs', name))).size, 3 * HEADER_BYTES + 5_010)
  })

  test('another process, or the same after an hour or a step back of the clock, begins a new file', async () => {
    await storage.small.append(Buffer.from('a'))
    const other = await openDisk(folder, { exclusive: false, now: () => now })
    await other.small.append(Buffer.from('b'))
    await other.small.close()
    assert.equal((await packs()).length, 2)
    now += HOUR - 1
    await storage.small.append(Buffer.from('c'))
    assert.equal((await packs()).length, 2)
    now += 1
    await storage.small.append(Buffer.from('d'))
    assert.equal((await packs()).length, 3)
    now -= 2 * HOUR
    await storage.small.append(Buffer.from('e'))
    assert.equal((await packs()).length, 4)
  })

  test('a file is full at 64 MB', async () => {
    const body = randomBytes(128 * 1024)
    const count = 560
    const keys = new Set<string>()
    for (let n = 0; n < count; n += 40) {
      for (const key of await Promise.all(Array.from({ length: 40 }, () => storage.small.append(body)))) keys.add(key)
    }
    assert.equal(keys.size, count)
    assert.equal((await packs()).length, 2)
    for (const name of await packs())
      assert.ok((await stat(join(folder, 'packs', name))).size < 64 * 1024 * 1024 + 40 * 132_000)
  })

  test('deleting overwrites the bytes, and those only', async () => {
    const bodies = [randomBytes(500), randomBytes(700), randomBytes(900)]
    const keys = await Promise.all(bodies.map((body) => storage.small.append(body)))
    const path = pathOf(keys[1] ?? '')
    const before = await readFile(path)
    await storage.delete(keys[1] ?? '')
    const bytes = await readFile(path)
    const at = offsetOf(keys[1] ?? '')
    const expected = Buffer.from(before)
    expected.write('dead', at + 4)
    expected.fill(0, at + HEADER_BYTES, at + HEADER_BYTES + 700)
    assert.ok(bytes.equals(expected))
  })

  test('a deletion that a crash cut off between mark and bytes is finished by the next', async () => {
    const key = await storage.small.append(randomBytes(500))
    const bytes = await readFile(pathOf(key))
    bytes.write('dead', 4)
    await writeFile(pathOf(key), bytes)
    assert.equal(await read(key), undefined)
    await storage.delete(key)
    assert.ok((await readFile(pathOf(key))).subarray(HEADER_BYTES).equals(Buffer.alloc(500)))
  })

  test('of a torn file everything before the tear is there, and nothing behind it', async () => {
    const keys = []
    for (let n = 0; n < 6; n++) keys.push(await storage.small.append(randomBytes(1_000)))
    const path = pathOf(keys[0] ?? '')
    const whole = await readFile(path)
    const tears = [
      whole.subarray(0, 5 * 1_020 + 7), // in a header
      whole.subarray(0, 5 * 1_020 + 500), // in a body
      Buffer.concat([whole.subarray(0, 5 * 1_020), Buffer.alloc(1_020)]), // zeros where the record was to be
      Buffer.concat([whole.subarray(0, 5 * 1_020), randomBytes(5_000)]),
    ]
    for (const torn of tears) {
      await writeFile(path, torn)
      const other = await openDisk(folder, { exclusive: true })
      assert.deepEqual(await keysOf(other), keys.slice(0, 5))
      for (const key of keys.slice(0, 5)) assert.equal((await read(key, other))?.length, 1_000)
      assert.equal(await read(keys[5] ?? '', other), undefined)
      assert.equal(await other.stat(keys[5] ?? ''), undefined)
      await other.delete(keys[5] ?? '')
    }
  })

  test('a failed write fails everybody in its group, leaves nothing of them, and the next one has a new file', async () => {
    const first = await storage.small.append(randomBytes(50_000))
    const size = (await stat(pathOf(first))).size
    const outcome = await limited(async (limit, { append }) => {
      await append(1_000)
      await limit('20000')
      const alone = append(1_000) // the others wait for it, and then go together
      const group = await Promise.allSettled([append(9_000), append(9_000), append(9_000)])
      await alone
      await limit('unlimited')
      const later = await append(500)
      return { refused: group.map((one) => (one.status === 'rejected' ? one.reason.failure : one.value)), later }
    })
    assert.deepEqual(outcome.refused, ['upload_failed', 'upload_failed', 'upload_failed'])
    assert.equal(outcome.listed.length, 3)
    assert.ok(outcome.listed.includes(outcome.later))
    assert.deepEqual(
      outcome.sizes.sort((a, b) => b - a),
      [2_040, 520],
    )
    assert.equal((await stat(pathOf(first))).size, size)
  })

  test('a folder that cannot be written to is a failure of the storage, and nothing is left behind', async (t) => {
    if (process.getuid?.() === 0) return t.diagnostic('root may write anywhere')
    await chmod(join(folder, 'packs'), 0o500)
    await assert.rejects(storage.small.append(Buffer.from('x')), { failure: 'upload_failed' })
    await chmod(join(folder, 'packs'), 0o700)
    assert.deepEqual(await packs(), [])
    await storage.small.append(Buffer.from('x'))
  })

  test('an object that was brought as a file of its own is found under its key, and deleted', async () => {
    const from = await openDisk(await newFolder(), { exclusive: true })
    const bytes = randomBytes(2_000)
    const key = await from.small.append(bytes)
    await from.small.close()
    const body = await from.get(key)
    assert.ok(body)
    await storage.put(key, body, bytes.length)
    await storage.small.append(randomBytes(10))
    assert.ok((await read(key))?.equals(bytes))
    assert.equal((await storage.stat(key))?.size, 2_000)
    assert.ok((await keysOf()).includes(key))
    await storage.delete(key)
    assert.equal(await read(key), undefined)
  })

  test('only files older than a day of which most is dead are offered, and removed when nothing of them is needed', async () => {
    const keys = []
    for (let n = 0; n < 10; n++) keys.push(await storage.small.append(randomBytes(1_000)))
    for (const key of keys.slice(0, 6)) await storage.delete(key)
    assert.deepEqual(await offered(), [])
    now += 23 * HOUR
    assert.deepEqual(await offered(), [])
    now += 2 * HOUR
    assert.deepEqual(await offered(), [], 'the file is still open in this process')
    await storage.small.append(randomBytes(10))
    assert.deepEqual(await offered(false), [keys.slice(6)])
    for (const key of keys.slice(6)) assert.equal((await read(key))?.length, 1_000)
    assert.deepEqual(await offered(true), [keys.slice(6)])
    assert.equal((await packs()).length, 1)
    for (const key of keys) assert.equal(await read(key), undefined)
  })

  test('a file is looked at again when it has changed; one in which nothing lives is removed, one with a tear never', async () => {
    const keys = []
    for (let n = 0; n < 4; n++) keys.push(await storage.small.append(randomBytes(1_000)))
    now += 25 * HOUR
    await storage.small.append(randomBytes(10))
    assert.deepEqual(await offered(), [])
    for (const key of keys.slice(1)) await storage.delete(key)
    assert.deepEqual(await offered(), [[keys[0]]])
    await storage.delete(keys[0] ?? '')
    const path = pathOf(keys[0] ?? '')
    const spare = join(folder, 'spare')
    await copyFile(path, spare)
    await truncate(path, 4_079)
    assert.deepEqual(await offered(true), [])
    assert.equal((await packs()).length, 2)
    await copyFile(spare, path)
    assert.deepEqual(await offered(false), [])
    assert.equal((await packs()).length, 1)
  })

  test('one file that cannot be read, or not be moved, is named in the end and keeps no other from its turn', async () => {
    const living: string[] = []
    for (let n = 0; n < 4; n++) {
      const keys = await Promise.all(Array.from({ length: 3 }, () => storage.small.append(randomBytes(1_000))))
      living.push(...keys.slice(0, 1))
      for (const key of keys.slice(1)) await storage.delete(key)
      now += HOUR
    }
    now += 25 * HOUR
    await storage.small.append(randomBytes(10))
    const [unreadable = '', unmovable = '', , , latest = ''] = await packs()
    await rm(join(folder, 'packs', unreadable))
    await mkdir(join(folder, 'packs', unreadable)) // which can be opened, and not be read
    const tidied: string[] = []
    const move = async ([key = '']: readonly string[]) => {
      tidied.push(key)
      if (key.includes(unmovable)) throw new Error('a bad sector')
      return true
    }
    await assert.rejects(storage.small.compact(move, AbortSignal.timeout(60_000)), (failure) => {
      assert.ok(failure instanceof AggregateError)
      assert.match(failure.message, /^2 packs .*EISDIR/)
      assert.match(String(failure.errors[1]), new RegExp(`${unmovable}: a bad sector`))
      return true
    })
    assert.deepEqual(tidied, living.slice(1))
    assert.deepEqual(await packs(), [unreadable, unmovable, latest])
  })
})

type Limited = { refused: string[]; later: string; listed: string[]; sizes: number[] }
type Steps = (
  limit: (bytes: string) => Promise<void>,
  o: { append: (size: number) => Promise<string> },
) => Promise<{ refused: string[]; later: string }>

/** Runs the steps in a process of its own, since the limit on the size of files is a whole process's. */
async function limited(steps: Steps): Promise<Limited> {
  const folder = await newFolder()
  const disk = join(dirname(fileURLToPath(import.meta.url)), 'disk.ts')
  const program = `
    import { execFileSync } from 'node:child_process'
    import { readdirSync, statSync } from 'node:fs'
    import { openDisk } from ${JSON.stringify(disk)}
    process.on('SIGXFSZ', () => {})
    const storage = await openDisk(${JSON.stringify(folder)}, { exclusive: true })
    const limit = async (bytes) => void execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=' + bytes + ':'])
    const done = await (${steps})(limit, { append: (size) => storage.small.append(Buffer.alloc(size, 'x')) })
    const listed = []
    for await (const { key } of storage.list()) listed.push(key)
    const packs = ${JSON.stringify(join(folder, 'packs'))}
    const sizes = readdirSync(packs).map((name) => statSync(packs + '/' + name).size)
    await storage.small.close()
    process.stdout.write(JSON.stringify({ ...done, listed, sizes }))`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program])
  return JSON.parse(stdout) as Limited
}
