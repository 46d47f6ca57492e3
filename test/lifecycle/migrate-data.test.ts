/** `satchel migrate-data`: everything arrives, interruptions cost nothing, and what does not fit is refused or named. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { packedIn } from '../support/packs.ts'
import { runCli, startServer } from '../support/satchel.ts'
import { bare, checkTarget, fromFolder, newFolder, sqliteEnv, usedSatchel } from './used.ts'

const BIN = fileURLToPath(new URL('../../bin/satchel.js', import.meta.url))
test('SQLite and disk to SQLite and disk: all arrives; again: all is compared and nothing changes', async () => {
  const used = await usedSatchel()
  const dataDir = await newFolder()
  const env = sqliteEnv(dataDir)
  const moved = await runCli(fromFolder(used.dataDir), env)
  assert.equal(moved.code, 0, moved.stderr)
  assert.match(moved.stdout, /attachments: 29 rows\n/)
  assert.match(moved.stdout, /objects: 29, each with the SHA-256 of its row\n$/)
  const again = await runCli(fromFolder(used.dataDir), env)
  assert.equal(again.code, 0, again.stderr)
  assert.match(again.stdout, /attachments: 29 the same, 0 changed, 0 gone\n/)
  assert.match(again.stdout, /objects: 29 with the SHA-256 of their row\n$/)
  await checkTarget(env, dataDir, used)
})

type Moved = { tables: number; objects: number }

function howFar(folder: string): Moved {
  try {
    const database = new DatabaseSync(join(folder, 'satchel.sqlite'), { readOnly: true })
    const sql = `select count(finished_at) as tables, max(case when step = 'objects' then copied end) as objects from migrated_data`
    const row = database.prepare(sql).get() as Moved
    database.close()
    return { tables: row.tables, objects: row.objects ?? 0 }
  } catch {
    return { tables: 0, objects: 0 }
  }
}

test('killed at any moment and started again, it ends with the same', async () => {
  const used = await usedSatchel(60)
  const dataDir = await newFolder()
  const env = sqliteEnv(dataDir)
  const seen = new Set<number>()
  const moments = [
    (o: Moved) => o.tables > 0,
    (o: Moved) => o.tables > 4,
    ...[8, 24, 40].map((n) => (o: Moved) => o.objects >= n),
  ]
  for (const isTime of moments) {
    const child = spawn(process.execPath, [BIN, ...fromFolder(used.dataDir)], {
      env: { PATH: process.env.PATH, ...env },
      stdio: 'ignore',
    })
    const exited = once(child, 'exit')
    while (child.exitCode === null && !isTime(howFar(dataDir))) await sleep(1)
    child.kill('SIGKILL')
    await exited
    seen.add(howFar(dataDir).objects)
  }
  assert.ok(
    [...seen].some((objects) => objects > 0 && objects < 59),
    `killed with ${[...seen]} objects copied`,
  )
  const last = await runCli(fromFolder(used.dataDir), env)
  assert.equal(last.code, 0, last.stderr)
  const verified = await runCli(fromFolder(used.dataDir), env)
  assert.equal(verified.code, 0, verified.stderr)
  assert.match(verified.stdout, /attachments: 59 the same, 0 changed, 0 gone[\s\S]*objects: 59 /)
  await checkTarget(env, dataDir, used)
})

test('bytes that are not what their row says are named and do not arrive', async () => {
  const used = await usedSatchel(6)
  const objects = join(used.dataDir, 'files', 'objects')
  const large = (await readdir(objects, { recursive: true })).filter((name) => name.split('/').length === 3)
  const small = (await packedIn(used.dataDir)).filter(({ isLive }) => isLive)
  assert.deepEqual([large.length, small.length], [2, 3])
  await writeFile(join(objects, large[0] ?? ''), 'something else')
  await rm(join(objects, large[1] ?? ''))
  const pack = join(used.dataDir, 'files', 'packs', small[0]?.name ?? '')
  const bytes = await readFile(pack)
  bytes.write('other', (small[0]?.at ?? 0) + 20 + 2)
  await writeFile(pack, bytes)
  await truncate(pack, (small[2]?.at ?? 0) + 20 + 2)
  const files = [...large, small[0]?.key ?? '', small[2]?.key ?? '']
  const dataDir = await newFolder()
  for (const said of [/other bytes in the source[\s\S]*/, /not in the target/]) {
    const { code, stderr } = await runCli(fromFolder(used.dataDir), sqliteEnv(dataDir))
    assert.equal(code, 1)
    assert.match(stderr, said)
    for (const file of files) assert.ok(stderr.includes(file))
  }
  const arrived = await readdir(join(dataDir, 'files', 'objects'), { recursive: true })
  assert.deepEqual(
    arrived.filter((name) => name.split('/').length === 3),
    [small[1]?.key],
  )
})

test('refuses a target with data of its own, a second source, a missing source, the target itself', async () => {
  const used = await usedSatchel(2)
  const other = await newFolder()
  const running = await startServer({ dataDir: other, env: sqliteEnv(other) })
  const refused = async (args: string[], folder: string, why: RegExp) => {
    const { code, stderr } = await runCli(args, sqliteEnv(folder))
    assert.equal(code, 1)
    assert.match(stderr, why)
  }
  await refused(fromFolder(used.dataDir), other, /a server is running on .*stop it first/)
  await refused(fromFolder(other), await newFolder(), /a server is running on .*stop it first/)
  await running.stop()
  await refused(fromFolder(used.dataDir), other, /the target is not empty: it has partners/)
  const target = await newFolder()
  assert.equal((await runCli(fromFolder(used.dataDir), sqliteEnv(target))).code, 0)
  await refused(fromFolder(other), target, /was filled from .*cannot take another source/)
  await refused(fromFolder('/nowhere/at/all'), await newFolder(), /does not exist/)
  await refused(fromFolder(used.dataDir), used.dataDir, /the same database/)
  const cloud = ['migrate-data', '--from-database', 'mysql://x', '--from-storage', 'file:/tmp']
  await refused(cloud, await newFolder(), /a database is named by sqlite:PATH/)
  assert.equal((await runCli(['migrate-data'], bare(running.env))).code, 2)
})
