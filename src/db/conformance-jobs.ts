/** The part of the databases' suite about jobs: who has them, when, and for how long. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { claim, enqueue, finish, type Job, releaseJobs, renewJobs, retryAt } from '../jobs/jobs.ts'
import type { Pair } from './conformance.ts'
import type { Opened } from './schema.ts'

export function jobConformance(open: () => Promise<Pair>): void {
  test('many claimers never have the same job, and none is left over', async () => {
    await using pair = await open()
    const jobs = 400
    for (let count = 0; count < jobs; count++) await enqueueSweep(pair.a, `job-${count}`)
    const running = new Set<string>()
    const ran: string[] = []
    async function work(opened: Opened): Promise<void> {
      for (let claimed = await take(opened, 3); claimed.length > 0; claimed = await take(opened, 3)) {
        for (const job of claimed) {
          assert.ok(!running.has(job.id), `${job.id} runs twice`)
          running.add(job.id)
        }
        await sleep(Math.random() * 5)
        for (const job of claimed) {
          running.delete(job.id)
          ran.push(job.id)
          await finish(opened.db, job)
        }
      }
    }
    await Promise.all(Array.from({ length: 16 }, (_, index) => work(index % 2 ? pair.a : pair.b)))
    // Who came when all that was left was locked has gone home: what is left is for one.
    await work(pair.a)
    assert.equal(new Set(ran).size, jobs)
    assert.equal(ran.length, jobs)
  })

  test('jobs are claimed oldest first, once they are due, and again when their lease has ended', async () => {
    await using pair = await open()
    const { db, skipLocked } = pair.a
    for (const [id, runAt] of [
      ['late', 300],
      ['early', 100],
      ['middle', 200],
      ['future', 5_000],
    ] as const)
      await enqueueSweep(pair.a, id, runAt)
    await enqueueSweep(pair.a, 'early', 1)
    const at = (realNow: number) => ({ now: 1_000, realNow, limit: 10, leaseMs: 50, node: 'a', skipLocked })
    const ids = (jobs: Job[]) => jobs.map((job) => `${job.id} ${job.attempt}`)
    assert.deepEqual(ids(await claim(db, { ...at(1_000), limit: 2 })), ['early 1', 'middle 1'])
    const [late] = await claim(db, at(1_000))
    assert.equal(late?.id, 'late')
    assert.deepEqual(await claim(db, at(1_049)), [])
    const again = await claim(pair.b.db, at(1_050))
    assert.deepEqual(ids(again), ['early 2', 'middle 2', 'late 2'])
    // Who lost a lease changes nothing any more, and is told so.
    await retryAt(db, late, 0, 1_060, 'too late')
    assert.deepEqual(await renewJobs(db, [late], 9_000), [])
    assert.deepEqual(await claim(db, at(1_070)), [])
    assert.equal((await renewJobs(pair.b.db, again, 9_000)).length, 3)
    assert.deepEqual(await claim(db, at(8_999)), [])
    await releaseJobs(db, 'b')
    assert.deepEqual(await claim(db, at(8_999)), [])
    await releaseJobs(db, 'a')
    assert.deepEqual(ids(await claim(db, at(8_999))), ['early 3', 'middle 3', 'late 3'])
  })
}

const take = ({ db, skipLocked }: Opened, limit: number) =>
  claim(db, { now: 1_000, realNow: Date.now(), limit, leaseMs: 60_000, node: 'a', skipLocked })

const enqueueSweep = (opened: Opened, id: string, runAt = 1) =>
  enqueue(opened.db, { id, kind: 'retention.sweep', payload: {}, runAt })
