import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { storageConformance } from './conformance.ts'
import { openDisk } from './disk.ts'

storageConformance('disk', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'satchel-disk-'))
  return {
    storage: await openDisk(folder, { exclusive: true }),
    close: () => rm(folder, { recursive: true, force: true }),
  }
})
