/**
 * Secrets that are made at the first start and read at every later one. With SQLite they are files of the data folder; with
 * PostgreSQL they are rows, since every node must have the same.
 */
import { chmod, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from './clock.ts'
import { ConfigError } from './config.ts'
import type { Db } from './db/schema.ts'
import { sync } from './storage/files.ts'

/** The secret of this name; `make` is used when there is none yet. */
export type Secrets = (name: string, make: () => string) => Promise<string>

/** Of many nodes that make it at once, one wins, and all get what that one made. */
export function secretsInDatabase(db: Db, clock: Clock): Secrets {
  const find = async (name: string) => {
    const row = await db.selectFrom('secrets').select('value').where('name', '=', name).executeTakeFirst()
    if (row?.value.trim() === '')
      throw new ConfigError([`SATCHEL_DATABASE_URL: the secret ${name} is empty; restore or remove it.`])
    return row
  }
  return async (name, make) => {
    const known = await find(name)
    if (known) return known.value
    const row = { name, value: make(), created_at: clock.now() }
    await db
      .insertInto('secrets')
      .values(row)
      .onConflict((oc) => oc.column('name').doNothing())
      .execute()
    const kept = await find(name)
    if (!kept) throw new Error(`the secret ${name} is gone`)
    return kept.value
  }
}

/** Mode 0600, written whole or not at all. */
export function secretsInFolder(folder: string): Secrets {
  return async (name, make) => {
    const path = join(folder, name)
    const known = await readFile(path, 'utf8').catch((error) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    if (known !== undefined) {
      if (known.trim() === '')
        throw new ConfigError([`SATCHEL_DATA_DIR: the secret in ${path} is empty; restore or remove it.`])
      await chmod(path, 0o600)
      return known.trim()
    }
    const secret = make()
    const file = await open(`${path}.new`, 'w', 0o600)
    try {
      await file.writeFile(`${secret}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(`${path}.new`, path)
    await sync(folder)
    return secret
  }
}
