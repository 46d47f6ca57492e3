/** The suite of every database, on SQLite. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { databaseConformance } from './conformance.ts'

const folder = await mkdtemp(join(tmpdir(), 'satchel-sqlite-'))
after(() => rm(folder, { recursive: true, force: true }))

let count = 0
databaseConformance('SQLite', async () => `sqlite:${join(folder, `${++count}.sqlite`)}`)
