/** A server on a hostile disk, with a data folder and ports that outlive it, and what may be said of an upload there. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { type HostileDisk, hostileDisk } from './hostile-disk.ts'
import { type Server, startServer } from './satchel.ts'
import { type Created, fixedPorts, md5 } from './wire.ts'

export type Stage = { disk: HostileDisk; dataDir: string; start: () => Promise<Server> }

/** All is well at each start; everything is taken down with the test. */
export async function hostileStage(t: TestContext): Promise<Stage> {
  const disk = await hostileDisk()
  const dataDir = await mkdtemp(join(tmpdir(), 'satchel-hostile-'))
  const env = { ...disk.env, ...(await fixedPorts()) }
  const started: Server[] = []
  t.after(async () => {
    for (const server of started) await server.stop()
    await disk.remove()
    await rm(dataDir, { recursive: true, force: true })
  })
  return {
    disk,
    dataDir,
    async start() {
      await disk.order(undefined)
      const server = await startServer({ dataDir, env })
      started.push(server)
      return server
    },
  }
}

export async function assertAcknowledged(response: Response, bytes: Buffer): Promise<void> {
  assert.equal(response.status, 200, await response.text())
  assert.equal(response.headers.get('etag'), `"${md5(bytes)}"`)
}

export async function assertPending(server: Server, created: Created): Promise<void> {
  assert.equal((await server.client().attachments.retrieve(created.attachment_id)).status, 'pending')
  assert.equal((await fetch(created.download_url)).status, 404)
}
