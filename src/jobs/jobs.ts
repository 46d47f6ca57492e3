/**
 * Durable work: one table, at least once. A job is written in the transaction that makes it necessary and claimed by a
 * worker afterwards; whoever claims it holds a lease, so a worker that dies loses it when the lease ends.
 */
import { sql } from 'kysely'
import { prepared } from '../db/prepared.ts'
import type { Db, NewRow } from '../db/schema.ts'

export type Payload = {
  'message.send': { message_id: string }
  'sandbox.report': { message_id: string; type: 'sent' | 'delivered' | 'read' | 'failed' | 'reply'; code?: 3007 | 4001 }
  'bytes.delete': { storage_key: string }
  'attachment.vanish': { attachment_id: string }
  'upload.settle': { attachment_id: string; last: boolean }
  'cdn.purge': { urls: string[] }
  'retention.sweep': Record<string, never>
}
export type Kind = keyof Payload
export type Job = { [K in Kind]: { id: string; kind: K; payload: Payload[K]; attempt: number } }[Kind]

type Enqueue<K extends Kind> = { id: string; kind: K; payload: Payload[K]; runAt: number }

const insertion = prepared((tx, row: NewRow<'jobs'>) =>
  tx
    .insertInto('jobs')
    .values(row)
    .onConflict((oc) => oc.column('id').doNothing()),
)

/**
 * Call it with the transaction whose change the job belongs to. `runAt` in ms since 1970. A job whose id is in the table
 * already is not written again.
 */
export async function enqueue<K extends Kind>(tx: Db, job: Enqueue<K>): Promise<void> {
  await insertion.write(tx, {
    id: job.id,
    kind: job.kind,
    payload: JSON.stringify(job.payload),
    run_at: job.runAt,
    attempt: 0,
    leased_until: 0,
    last_error: null,
    failed_at: null,
    created_at: job.runAt,
  })
}

type Claim = { now: number; realNow: number; leasedUntil: number; limit: number; node: string }

const claiming = (o: { skipLocked: boolean }) =>
  prepared((db, { now, realNow, leasedUntil, limit, node }: Claim) =>
    db
      .updateTable('jobs')
      .set((eb) => ({ leased_until: leasedUntil, leased_by: node, attempt: eb('attempt', '+', 1) }))
      .where('id', 'in', (eb) =>
        eb
          .selectFrom('jobs')
          .select('id')
          .where('failed_at', 'is', null)
          .where('run_at', '<=', now)
          .where('leased_until', '<=', realNow)
          .orderBy('run_at')
          .orderBy('id')
          .limit(limit)
          .$if(o.skipLocked, (qb) => qb.forUpdate().skipLocked()),
      )
      .returning(['id', 'kind', 'payload', 'attempt', 'run_at']),
  )
const claimingAlone = claiming({ skipLocked: false })
const claimingAmongMany = claiming({ skipLocked: true })

/**
 * Takes up to `limit` jobs that are due at `now`, oldest first, for `leaseMs`. `attempt` is 1 the first time. `realNow`:
 * leases tell whether a worker lives, so they follow real time even where the clock is moved by hand.
 */
export async function claim(
  db: Db,
  o: { now: number; realNow: number; limit: number; leaseMs: number; node: string; skipLocked: boolean },
): Promise<Job[]> {
  const { now, realNow, limit, node } = o
  const claiming = o.skipLocked ? claimingAmongMany : claimingAlone
  const rows = await claiming.all(db, { now, realNow, leasedUntil: realNow + o.leaseMs, limit, node })
  rows.sort((a, b) => a.run_at - b.run_at || (a.id < b.id ? -1 : 1))
  return rows.map(({ id, kind, payload, attempt }) => ({ id, kind, payload: JSON.parse(payload), attempt }) as Job)
}

/** Lengthens the leases of jobs that run; resolves with those that nobody else has claimed since. */
export async function renewJobs(db: Db, jobs: readonly Job[], leasedUntil: number): Promise<Job[]> {
  const rows = await db
    .updateTable('jobs')
    .set({ leased_until: leasedUntil })
    .where(
      'id',
      'in',
      jobs.map((job) => job.id),
    )
    .where('leased_until', '>', 0)
    .returning(['id', 'attempt'])
    .execute()
  const attempts = new Map(rows.map(({ id, attempt }) => [id, attempt]))
  return jobs.filter((job) => attempts.get(job.id) === job.attempt)
}

const finishing = prepared((db, { id, attempt }: Pick<Job, 'id' | 'attempt'>) =>
  db.deleteFrom('jobs').where('id', '=', id).where('attempt', '=', attempt),
)

/** Unless the lease was lost and another worker has it now: it is that one's to finish. */
export async function finish(db: Db, { id, attempt }: Job): Promise<void> {
  await finishing.write(db, { id, attempt })
}

/**
 * Gives the job back to run at `at`, or keeps it as failed for ever, unless the lease was lost and another worker has it now.
 * `error` is for people.
 */
export async function retryAt(db: Db, job: Job, at: number | 'never', now: number, error: string): Promise<void> {
  await db
    .updateTable('jobs')
    .set({
      leased_until: 0,
      last_error: error.slice(0, 500),
      ...(at === 'never' ? { failed_at: now } : { run_at: at }),
    })
    .where('id', '=', job.id)
    .where('attempt', '=', job.attempt)
    .execute()
}

/** Frees what a node had claimed that is gone, so that it need not wait for the end of its leases; or whatever node it was. */
export async function releaseJobs(db: Db, node: string | 'any'): Promise<void> {
  await db
    .updateTable('jobs')
    .set({ leased_until: 0 })
    .where('leased_until', '>', 0)
    .$if(node !== 'any', (qb) => qb.where('leased_by', '=', node))
    .execute()
}

/** What would leave bytes behind for ever is tried again, as if for the first time. */
export async function reviveDeletions(db: Db, now: number): Promise<void> {
  await db
    .updateTable('jobs')
    .set({ failed_at: null, attempt: 0, leased_until: 0, run_at: now })
    .where('failed_at', 'is not', null)
    .where('kind', 'in', ['bytes.delete', 'attachment.vanish'] satisfies Kind[])
    .execute()
}

/** Forgets jobs that were given up before then; returns how many. */
export async function removeFailedJobs(db: Db, o: { before: number; limit: number }): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom('jobs')
    .where('id', 'in', (eb) =>
      eb.selectFrom('jobs').select('id').where('failed_at', '<', o.before).orderBy('failed_at').limit(o.limit),
    )
    .executeTakeFirst()
  return Number(numDeletedRows)
}

/** How many jobs wait, and how many were given up: for the metrics. */
export async function countJobs(db: Db): Promise<{ waiting: number; failed: number }> {
  const { rows } = await sql<{ waiting: number; failed: number }>`
    select count(*) - count(failed_at) as waiting, count(failed_at) as failed from jobs`.execute(db)
  return { waiting: Number(rows[0]?.waiting ?? 0), failed: Number(rows[0]?.failed ?? 0) }
}
