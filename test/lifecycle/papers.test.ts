/** docs/operate.md, compose.yaml, the Dockerfile and the systemd unit against the program: no variable is missing or invented. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { runCli } from '../support/satchel.ts'

const read = (name: string) => readFile(new URL(`../../${name}`, import.meta.url), 'utf8')
const { stdout } = await runCli(['config', '--print'])
const variables = [...stdout.matchAll(/^(SATCHEL_\w+)=(.*?)(?: {2}\(default\))?$/gm)].map(
  ([, name = '', value = '']) => ({
    name,
    value,
  }),
)
const names = variables.map(({ name }) => name)

test('the table of docs/operate.md has every variable, in order, with its default', async () => {
  const rows = [...(await read('docs/operate.md')).matchAll(/^\| `(SATCHEL_\w+)`(?: \(secret\))? \| (.*?) \|/gm)]
  assert.deepEqual(
    rows.map(([, name]) => name),
    names,
  )
  for (const [, name, cell = ''] of rows) {
    const value = variables.find((variable) => variable.name === name)?.value ?? ''
    if (value !== '') assert.equal(cell, `\`${value}\``, name)
  }
})

test('the variables marked as secret are those that can be read from a file', async () => {
  const rows = [...(await read('docs/operate.md')).matchAll(/^\| `(SATCHEL_\w+)`( \(secret\))? \|/gm)]
  for (const [, name = '', secret] of rows) {
    const { stderr } = await runCli(['config', '--print'], { [`${name}_FILE`]: '/nowhere/at/all' })
    const isRead = stderr.includes('cannot be read')
    assert.equal(isRead, secret !== undefined, `${name}: ${stderr}`)
  }
})

for (const name of ['docs/operate.md', 'compose.yaml', 'Dockerfile', 'deploy/satchel.service']) {
  test(`${name} names no variable that does not exist`, async () => {
    for (const [variable] of (await read(name)).matchAll(/SATCHEL_[A-Z0-9_]+/g)) {
      if (variable !== 'SATCHEL_') assert.ok(names.includes(variable), variable)
    }
  })
}

test('every command of the help is described in docs/operate.md or the README, or says so itself', async () => {
  const help = (await runCli(['--help'])).stdout
  const papers = (await read('docs/operate.md')) + (await read('README.md')) + (await read('docs/sandbox.md'))
  const commands = new Set([...help.matchAll(/^ {2}satchel ([a-z-]+)/gm)].map(([, command = '']) => command))
  for (const command of commands)
    if (!command.startsWith('-')) assert.match(papers, new RegExp(`satchel( --)? ${command}|-- ${command}`), command)
})

test('every metric of /metrics is in docs/operate.md', async () => {
  const declared = [...(await read('src/metrics.ts')).matchAll(/name: '(satchel_\w+)'/g)].map(([, name = '']) => name)
  const paper = await read('docs/operate.md')
  assert.ok(declared.length > 5)
  for (const name of declared) assert.ok(paper.includes(`\`${name}\``), name)
})
