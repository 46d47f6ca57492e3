/** The part of the storages' suite about listing: everything, in key order, from any key on. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { list, put } from './conformance-sources.ts'
import type { Storage } from './storage.ts'

export function listingConformance(ready: () => Storage): void {
  test('everything is listed in key order, from any key on', async () => {
    const storage = ready()
    const names = [
      'a',
      'a-b',
      'a/b',
      'a/b-c',
      'a/bb',
      'a0',
      'a_b',
      'ab',
      'b/a/a/a',
      'b/a/b',
      'b0/0',
      'ba',
      'c-',
      'c/',
      'z9',
    ]
    const keys = names.map((name) => `list/${name.replace(/\/$/, '/x')}/leaf`)
    for (let i = 0; i < 40; i++) keys.push(`list/many/${randomBytes(8).toString('hex')}`)
    await Promise.all(keys.map((key, i) => put(storage, key, Buffer.alloc(i + 1))))
    const all = await list(storage)
    const found = all.map(({ key }) => key)
    assert.deepEqual(found, [...found].sort())
    const sorted = [...keys].sort()
    assert.deepEqual(
      found.filter((key) => key.startsWith('list/')),
      sorted,
    )
    for (const entry of all)
      assert.deepEqual({ ...entry, modified: 0 }, { ...(await storage.stat(entry.key)), modified: 0 })
    for (const after of [
      '',
      'list',
      'list/',
      sorted[0],
      sorted[7],
      'list/a/',
      'list/a0',
      'list/zzzz',
      'list-',
      'list0',
      found.at(-1),
      'zzz',
      ...sorted,
    ])
      assert.deepEqual(
        (await list(storage, after)).map(({ key }) => key),
        found.filter((key) => key > (after ?? '')),
        after,
      )
    let resumed: string[] = []
    for (let after: string | undefined; ; after = resumed.at(-1)) {
      const next: string[] = []
      for await (const { key } of storage.list(after)) if (next.push(key) === 9) break
      resumed = [...resumed, ...next]
      if (next.length < 9) break
    }
    assert.deepEqual(resumed, found)
  })

  test('more entries than fit on a page of S3 are all listed', { timeout: 120_000 }, async () => {
    const storage = ready()
    const keys = Array.from({ length: 1_100 }, (_, i) => `page/${String(i).padStart(5, '0')}`)
    for (let i = 0; i < keys.length; i += 50)
      await Promise.all(keys.slice(i, i + 50).map((key) => put(storage, key, Buffer.from('x'))))
    const found = (await list(storage, 'page/')).map(({ key }) => key).filter((key) => key.startsWith('page/'))
    assert.deepEqual(found, keys)
    assert.equal((await list(storage, 'page/00999')).filter(({ key }) => key.startsWith('page/')).length, 100)
    for (let i = 0; i < keys.length; i += 50) await Promise.all(keys.slice(i, i + 50).map((key) => storage.delete(key)))
  })
}
