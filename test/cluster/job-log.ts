/**
 * Who had which job from when to when, written down by PostgreSQL itself: a trigger on the table of jobs notes every claim and
 * every end. Together with the hours at which the test killed nodes it tells whether two living nodes ever had the same job.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { query } from '../support/postgres.ts'
import type { Node } from './nodes.ts'

/** `released`: taken from a node by its next start, or by whoever came after its lease; that node has to be dead by then. */
type Entry = { job: string; what: 'claimed' | 'ended' | 'released'; node: string; at: number }

const TRIGGER = `
  create table job_log (n bigserial primary key, job text, what text, node text, at double precision);
  create function log_job() returns trigger language plpgsql as $$
  declare told text := case
    when tg_op = 'DELETE' then 'ended'
    when new.attempt > old.attempt then 'claimed'
    when old.leased_until = 0 or new.leased_until > 0 then null
    when new.last_error is distinct from old.last_error or new.run_at <> old.run_at or new.failed_at is not null then 'ended'
    else 'released' end;
  begin
    if told is not null then
      insert into job_log (job, what, node, at) values (
        old.id, told, case told when 'claimed' then new.leased_by else old.leased_by end,
        extract(epoch from clock_timestamp()) * 1000);
    end if;
    return null;
  end $$;
  create trigger log_job after update or delete on jobs for each row execute function log_job();`

export async function logJobs(database: string): Promise<void> {
  await query(database, TRIGGER)
}

/** `killedAt`: by the name of the node, in ms since 1970, when its process was gone. */
export async function findOverlaps(
  database: string,
  nodes: readonly Node[],
  killedAt: ReadonlyMap<string, readonly number[]>,
): Promise<{ claims: number; reclaimed: number; overlaps: string[] }> {
  const names = new Map<string, string>()
  for (const { name, server } of nodes) {
    names.set((await readFile(join(server.dataDir, 'node-id'), 'utf8')).trim(), name)
  }
  const { rows } = await query<Entry>(database, 'select job, what, node, at from job_log order by n')
  const overlaps: string[] = []
  let [claims, reclaimed] = [0, 0]
  for (const [job, entries] of Map.groupBy(rows, (row) => row.job)) {
    let holder: Entry | undefined
    for (const entry of entries) {
      if (entry.what === 'ended') holder = undefined
      if (entry.what !== 'claimed') continue
      claims++
      if (holder) {
        reclaimed++
        const { node, at } = holder
        const name = names.get(node) ?? node
        const hasDied = killedAt.get(name)?.some((killed) => killed > at && killed <= entry.at)
        if (!hasDied) overlaps.push(`${job}: ${name} had it when ${names.get(entry.node)} claimed it`)
      }
      holder = entry
    }
  }
  return { claims, reclaimed, overlaps }
}
