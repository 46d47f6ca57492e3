/** What scripts/scaling.ts reads from PostgreSQL at the end: bytes of tables and indexes, and the plans of the reads. */
import { median } from './scaling-rounds.ts'
import type { Site } from './scaling-work.ts'

const TABLES = [
  'attachments',
  'messages',
  'message_parts',
  'chats',
  'chat_handles',
  'jobs',
  'events',
  'webhook_deliveries',
]

export async function printSizes({ sql, size, fillSeconds }: Site): Promise<void> {
  const { rows } = await sql.query<{ name: string; rows: number; bytes: string; level: number | null }>(
    `select t.relname as name, t.reltuples::bigint as rows, pg_table_size(t.oid) as bytes, null::int as level, t.relname as of,
       0 as part from pg_class t where t.relname = any($1) and t.relkind = 'r'
     union all
     select x.relname, t.reltuples::bigint, pg_relation_size(x.oid), (select level from bt_metap(x.relname::text))::int,
       t.relname, 1 from pg_index i
       join pg_class x on x.oid = i.indexrelid join pg_class t on t.oid = i.indrelid where t.relname = any($1)
     order by "of", part, name`,
    [TABLES],
  )
  console.log(`\n${size}: filled in ${fillSeconds} s\n\n| table or index | rows | MB | bytes a row | levels |`)
  console.log('|---|--:|--:|--:|--:|')
  for (const row of rows) {
    const bytes = Number(row.bytes)
    const each = row.rows > 0 ? (bytes / Number(row.rows)).toFixed(0) : '-'
    const levels = row.level === null ? '' : row.level + 1
    console.log(`| ${row.name} | ${row.rows} | ${(bytes / 1e6).toFixed(1)} | ${each} | ${levels} |`)
  }
}

/** The statements of rows.ts, as they reach PostgreSQL. $1: a number of a message, $2: the partner, $3: now. */
const CHAT = 'scaling.chat_id(scaling.chat_of($1) / 925 * 925)'
const HOT: Record<string, string> = {
  'get, CDN look-up': `select * from attachments where id = scaling.attachment_id($1)`,
  'list messages': `select * from messages where deleted_at is null and chat_id = ${CHAT}
    order by created_at desc, id desc limit 51`,
  'list messages, deep': `select * from messages where deleted_at is null and chat_id = ${CHAT}
    and (created_at, id) < (scaling.time_of(scaling.messages() / 2), '0') order by created_at desc, id desc limit 51`,
  'parts of 50 messages': `select p.*, a.id as a_id, a.filename from message_parts p
    left join attachments a on a.id = p.attachment_id
    where p.message_id = any(array(select id from messages where chat_id = ${CHAT} order by created_at desc, id desc limit 50))
    order by p.message_id, p.position`,
  'list chats': `select * from chats where partner_id = $2 order by updated_at desc, id desc limit 21`,
  'list chats with a number': `select * from chats where partner_id = $2 and id in (select chat_id from chat_handles
    where handle = '+1' || (2100000000 + scaling.chat_of($1)) and is_me = 0) order by updated_at desc, id desc limit 21`,
  'list chats with an e-mail address': `select * from chats where partner_id = $2 and id in (select chat_id from chat_handles
    where lower(handle) = 'guest0@example.com' and is_me = 0) order by updated_at desc, id desc limit 21`,
  'jobs due': `select id from jobs where failed_at is null and run_at <= $3::bigint and leased_until <= $3::bigint
    order by run_at, id limit 16 for update skip locked`,
  'deliveries due': `select id from webhook_deliveries where status = 'pending' and next_attempt_at <= $3::bigint limit 1`,
}

type Plan = { 'Index Name'?: string; 'Node Type': string; 'Relation Name'?: string; Plans?: Plan[] }
const RUNS = 21

/** Pages found and read, and milliseconds inside PostgreSQL, in medians; the plan at the largest size. */
export async function printPlans(sites: Site[]): Promise<void> {
  const head = ['query', 'by', ...sites.map(({ size }) => `${size}: pages`), ...sites.map(({ size }) => `${size}: ms`)]
  console.log(`\n| ${head.join(' | ')} |\n|---|---${'|--:'.repeat(head.length - 2)}|`)
  for (const [name, text] of Object.entries(HOT)) {
    let by = ''
    const pages: string[] = []
    const ms: string[] = []
    for (const { sql, messages, partner } of sites) {
      const runs: { pages: number; ms: number }[] = []
      for (let run = 0; run < RUNS; run++) {
        const query = text
          .replaceAll('$1', `${Math.floor(Math.random() * messages)}::bigint`)
          .replaceAll('$2', `'${partner}'`)
          .replaceAll('$3', String(Date.now()))
        const { rows } = await sql.query(`explain (analyze, buffers, format json) ${query}`)
        const [found] = rows[0]['QUERY PLAN']
        runs.push({
          pages: found.Plan['Shared Hit Blocks'] + found.Plan['Shared Read Blocks'],
          ms: found['Execution Time'],
        })
        by = [...new Set(scans(found.Plan))].join(', ')
      }
      pages.push(median(runs.map((run) => run.pages)).toFixed(0))
      ms.push(median(runs.map((run) => run.ms)).toFixed(2))
    }
    console.log(`| ${[name, by, ...pages, ...ms].join(' | ')} |`)
  }
}

function scans(plan: Plan): string[] {
  const whole = plan['Node Type'] === 'Seq Scan' ? [`all of ${plan['Relation Name']}`] : []
  return [...whole, ...(plan['Index Name'] ? [plan['Index Name']] : []), ...(plan.Plans ?? []).flatMap(scans)]
}
