/**
 * `npm run test:all`: everything that `npm test` runs, the black-box suite again with every server on PostgreSQL, and what
 * needs servers of its own (*.servers.ts). Starts what it needs itself; what cannot be had is a failure, never skipped.
 * Arguments name stages: sqlite, postgres, servers. Without any, all three.
 */
import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { startPostgres } from '../test/support/postgres.ts'
import { buildS3Servers } from '../test/support/s3.ts'

type Totals = { pass: number; fail: number; skipped: number }
type Stage = { about: string; files: string[]; env: Record<string, string> }

const root = new URL('..', import.meta.url)
const find = (pattern: string) => globSync(pattern, { cwd: root }).sort()

async function main(names: string[]): Promise<number> {
  const results: { about: string; totals: Totals; seconds: number }[] = []
  await using postgres = await startPostgres()
  console.log(`PostgreSQL for the tests: ${postgres.about}\n`)
  const stages: Record<string, Stage> = {
    sqlite: { about: 'SQLite', files: [...find('src/**/*.test.ts'), ...find('test/**/*.test.ts')], env: {} },
    postgres: {
      about: 'black box on PostgreSQL',
      files: find('test/**/*.test.ts'),
      env: { SATCHEL_TEST_DATABASE_URL: postgres.url() },
    },
    servers: {
      about: 'with servers of their own',
      files: [...find('src/**/*.servers.ts'), ...find('test/**/*.servers.ts')],
      env: {},
    },
  }
  const wanted = names.length > 0 ? names : Object.keys(stages)
  if (wanted.includes('servers')) console.log(`S3 servers for the tests: ${(await buildS3Servers()).join(', ')}\n`)
  for (const name of wanted) {
    const stage = stages[name]
    if (!stage) throw new Error(`there is no stage ${name}; there are ${Object.keys(stages).join(', ')}`)
    if (stage.files.length === 0) {
      console.log(`${stage.about}: no files\n`)
      continue
    }
    console.log(`--- ${stage.about}: ${stage.files.length} files`)
    const began = Date.now()
    const totals = await runFiles(stage)
    results.push({ about: stage.about, totals, seconds: (Date.now() - began) / 1000 })
  }
  console.log('')
  for (const { about, totals, seconds } of results) {
    console.log(
      `${about}: ${totals.pass} passed, ${totals.fail} failed, ${totals.skipped} skipped in ${seconds.toFixed(0)} s`,
    )
  }
  // A test that was skipped proves nothing here, where everything that it could want is there.
  return results.every(({ totals }) => totals.fail === 0 && totals.skipped === 0 && totals.pass > 0) ? 0 : 1
}

/** Node's own runner, its report passed on as it comes. A run that ends without totals counts as failed. */
async function runFiles({ files, env }: Stage): Promise<Totals> {
  const child = spawn(process.execPath, ['--test', '--test-reporter=spec', ...files], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let tail = ''
  child.stdout.on('data', (chunk) => {
    process.stdout.write(chunk)
    tail = (tail + chunk).slice(-200_000)
  })
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  const count = (name: string) => Number(new RegExp(`^ℹ ${name} (\\d+)$`, 'm').exec(tail)?.[1] ?? 0)
  const totals = { pass: count('pass'), fail: count('fail') + count('cancelled'), skipped: count('skipped') }
  return { ...totals, fail: code === 0 ? totals.fail : Math.max(1, totals.fail) }
}

process.exitCode = await main(process.argv.slice(2))
