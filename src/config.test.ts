/** The table of variables: what each takes, what it says of what it does not take, and what is shown of it. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { after, describe, test } from 'node:test'
import { ConfigError, loadConfig, printableConfig } from './config.ts'

const folder = mkdtempSync(join(tmpdir(), 'satchel-config-'))
after(() => rmSync(folder, { recursive: true }))

function faultsOf(env: Record<string, string>): readonly string[] {
  try {
    loadConfig(env)
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.faults
  }
  return []
}

test('with nothing set: loopback, two ports, and everything in ./data', () => {
  const { egressAllow: _, ...config } = loadConfig({})
  assert.deepEqual(config, {
    roles: ['api', 'edge', 'worker'],
    host: '127.0.0.1',
    port: 4010,
    cdnPort: 4011,
    publicUrl: undefined,
    cdnUrl: undefined,
    dataDir: resolve('data'),
    databaseUrl: `sqlite:${resolve('data/satchel.sqlite')}`,
    databasePool: 10,
    storageUrl: `file:${resolve('data/files')}`,
    s3Credentials: undefined,
    uploads: 'proxy',
    cdnPurgeUrl: undefined,
    apiKey: undefined,
    phoneNumbers: [],
    gateway: undefined,
    retentionDays: 7,
    otlpUrl: undefined,
    logLevel: 'info',
  })
  assert.ok(Object.isFrozen(loadConfig({})))
})

describe('takes', () => {
  const good: [string, string, keyof ReturnType<typeof loadConfig>, unknown][] = [
    ['SATCHEL_HOST', '::1', 'host', '::1'],
    ['SATCHEL_HOST', 'satchel.internal', 'host', 'satchel.internal'],
    ['SATCHEL_PORT', '0', 'port', 0],
    ['SATCHEL_PORT', '65535', 'port', 65535],
    ['SATCHEL_PORT', '', 'port', 4010],
    ['SATCHEL_PUBLIC_URL', 'https://api.example.com/', 'publicUrl', 'https://api.example.com'],
    ['SATCHEL_CDN_URL', 'http://cdn.example.com:8080/a/b//', 'cdnUrl', 'http://cdn.example.com:8080/a/b'],
    ['SATCHEL_DATA_DIR', '/var/lib/satchel/', 'storageUrl', 'file:/var/lib/satchel/files'],
    ['SATCHEL_DATABASE_URL', 'sqlite:/db/a.sqlite', 'databaseUrl', 'sqlite:/db/a.sqlite'],
    ['SATCHEL_DATABASE_URL', 'postgres://u:p@db/satchel', 'databaseUrl', 'postgres://u:p@db/satchel'],
    ['SATCHEL_DATABASE_POOL', '2', 'databasePool', 2],
    ['SATCHEL_STORAGE_URL', 'file:relative', 'storageUrl', `file:${resolve('relative')}`],
    ['SATCHEL_STORAGE_URL', 's3://bucket?region=eu-west-1', 'storageUrl', 's3://bucket?region=eu-west-1'],
    ['SATCHEL_STORAGE_URL', 's3://bucket', 'uploads', 'direct'],
    ['SATCHEL_UPLOADS', 'proxy', 'uploads', 'proxy'],
    ['SATCHEL_CDN_PURGE_URL', 'https://cdn.example.com/purge?a=1', 'cdnPurgeUrl', 'https://cdn.example.com/purge?a=1'],
    ['SATCHEL_OTLP_URL', 'http://collector:4318/', 'otlpUrl', 'http://collector:4318'],
    ['SATCHEL_API_KEY', '12345678', 'apiKey', '12345678'],
    [
      'SATCHEL_PHONE_NUMBERS',
      ' +12025550100 ,,+12025550101,+12025550100',
      'phoneNumbers',
      ['+12025550100', '+12025550101'],
    ],
    ['SATCHEL_LOG_LEVEL', 'silent', 'logLevel', 'silent'],
  ]
  for (const [name, value, field, expected] of good)
    test(`${name}=${value}`, () => assert.deepEqual(loadConfig({ [name]: value })[field], expected))
})

describe('refuses in one sentence that names the variable', () => {
  const bad: [string, string, RegExp][] = [
    ['SATCHEL_HOST', 'two words', /not a host name/],
    ['SATCHEL_PORT', 'http', /not a port number/],
    ['SATCHEL_PORT', '65536', /not a port number/],
    ['SATCHEL_PORT', '-1', /not a port number/],
    ['SATCHEL_PORT', '80.5', /not a port number/],
    ['SATCHEL_CDN_PORT', '0x50', /not a port number/],
    ['SATCHEL_PUBLIC_URL', 'api.example.com', /not an http or https URL/],
    ['SATCHEL_PUBLIC_URL', 'ftp://api.example.com', /not an http or https URL/],
    ['SATCHEL_CDN_URL', 'https://cdn.example.com/?a=1', /not an http or https URL/],
    ['SATCHEL_CDN_URL', 'https://user:password@cdn.example.com', /not an http or https URL/],
    ['SATCHEL_CDN_URL', 'https://:password@cdn.example.com', /not an http or https URL/],
    ['SATCHEL_DATABASE_URL', 'postgres://localhost', /must be sqlite:PATH/],
    ['SATCHEL_DATABASE_URL', 'sqlite:', /must be sqlite:PATH/],
    ['SATCHEL_DATABASE_URL', 'mysql://u:p@db/satchel', /must be sqlite:PATH or postgres:/],
    ['SATCHEL_DATABASE_POOL', '1', /not a whole number from 2/],
    ['SATCHEL_STORAGE_URL', 'http://bucket', /must be file:PATH/],
    ['SATCHEL_STORAGE_URL', 's3://bucket?regoin=x', /"regoin" is not one of the parameters/],
    ['SATCHEL_S3_ACCESS_KEY_ID', 'a b', /printable ASCII/],
    ['SATCHEL_S3_SECRET_ACCESS_KEY', 'only', /must be set together with SATCHEL_S3_ACCESS_KEY_ID/],
    ['SATCHEL_S3_SESSION_TOKEN', 'only', /needs SATCHEL_S3_ACCESS_KEY_ID/],
    ['SATCHEL_UPLOADS', 'sideways', /not direct or proxy/],
    ['SATCHEL_UPLOADS', 'direct', /direct needs a bucket/],
    ['SATCHEL_CDN_PURGE_URL', 'ftp://cdn', /not an http or https URL/],
    ['SATCHEL_GATEWAY_URL', 'ftp://gateway', /not an http or https URL/],
    ['SATCHEL_GATEWAY_SECRET', 'whsec_short', /24 to 64 random bytes/],
    ['SATCHEL_OTLP_URL', 'collector:4318', /not an http or https URL/],
    ['SATCHEL_API_KEY', 'short', /8 to 512 printable/],
    ['SATCHEL_API_KEY', 'with a blank', /8 to 512 printable/],
    ['SATCHEL_API_KEY_FILE', '/does/not/exist', /SATCHEL_API_KEY_FILE names cannot be read/],
    ['SATCHEL_API_KEY_FILE', '/dev/null', /SATCHEL_API_KEY_FILE names is empty/],
    ['SATCHEL_PHONE_NUMBERS', '12025550100', /not in E\.164/],
    ['SATCHEL_PHONE_NUMBERS', '+12025550100,nobody', /not in E\.164/],
    ['SATCHEL_EGRESS_ALLOW', '10.0.0.0/99', /./],
    ['SATCHEL_LOG_LEVEL', 'loud', /not one of fatal, error/],
    ['SATCHEL_PROT', '1', /not a variable of Satchel/],
    ['SATCHEL_PORT_FILE', '/dev/null', /^SATCHEL_PORT_FILE is not a variable of Satchel/],
    ['SATCHEL_DATA_DIR', 'a\0b', /NUL/],
  ]
  for (const [name, value, says] of bad)
    test(`${name}=${JSON.stringify(value)}`, () => {
      const faults = faultsOf({ [name]: value })
      assert.equal(faults.length, 1, faults.join('\n'))
      assert.match(faults[0] ?? '', new RegExp(`^${name.replace('API_KEY_FILE', 'API_KEY')}\\b[^\\n]+$`))
      assert.match(faults[0] ?? '', says)
    })
})

test('all faults are told together, the one between two variables too', () => {
  const env = { SATCHEL_PORT: '5', SATCHEL_CDN_PORT: '5', SATCHEL_HOST: '?', SATCHEL_NO: 'x', SATCHEL_API_KEY: 'no' }
  const names = faultsOf(env).map((fault) => fault.split(/[ :]/, 1)[0])
  assert.deepEqual(names.sort(), ['SATCHEL_API_KEY', 'SATCHEL_CDN_PORT', 'SATCHEL_HOST', 'SATCHEL_NO'])
})

test('two bad ports are two faults, not a third that they are the same', () => {
  assert.equal(faultsOf({ SATCHEL_PORT: 'x', SATCHEL_CDN_PORT: 'y' }).length, 2)
})

test('what is wrong between two variables is told once each of them is right', () => {
  const storage = { SATCHEL_STORAGE_URL: 's3://', SATCHEL_UPLOADS: 'direct' }
  assert.deepEqual(
    faultsOf(storage).map((fault) => fault.split(':', 1)[0]),
    ['SATCHEL_STORAGE_URL'],
  )
  const gateway = { SATCHEL_GATEWAY_URL: 'ftp://gateway', SATCHEL_GATEWAY_SECRET: `whsec_${'A'.repeat(32)}` }
  assert.deepEqual(
    faultsOf(gateway).map((fault) => fault.split(':', 1)[0]),
    ['SATCHEL_GATEWAY_URL'],
  )
})

test('a node that leaves something to others is told of everything that it lacks, with the other faults', () => {
  assert.throws(
    () => loadConfig({ SATCHEL_PORT: 'x' }, ['api']),
    (error) => {
      assert.ok(error instanceof ConfigError)
      const names = error.faults.map((fault) => fault.split(':', 1)[0])
      const expected = ['SATCHEL_PORT', 'SATCHEL_DATABASE_URL', 'SATCHEL_STORAGE_URL', 'SATCHEL_CDN_URL']
      assert.deepEqual(names, expected)
      return true
    },
  )
})

test('both ports may be 0, which is any free port twice', () => {
  assert.deepEqual(faultsOf({ SATCHEL_PORT: '0', SATCHEL_CDN_PORT: '0' }), [])
})

test('variables of others are of no interest', () => {
  assert.deepEqual(faultsOf({ PORT: 'x', LINQ_API_V3_API_KEY: '', satchel_port: 'x', MY_SATCHEL_PORT: 'x' }), [])
})

describe('secrets', () => {
  const file = join(folder, 'key')
  writeFileSync(file, '  a-key-from-a-file\n')

  test('come from the file that NAME_FILE names, without the line end', () => {
    assert.equal(loadConfig({ SATCHEL_API_KEY_FILE: file }).apiKey, 'a-key-from-a-file')
  })

  test('are set once: a variable and its file are a fault', () => {
    assert.match(
      faultsOf({ SATCHEL_API_KEY: '12345678', SATCHEL_API_KEY_FILE: file }).join('\n'),
      /^SATCHEL_API_KEY: set either/,
    )
  })

  test('are masked when printed, and what is not secret is not', () => {
    const rows = printableConfig({
      SATCHEL_API_KEY_FILE: file,
      SATCHEL_DATABASE_URL: 'sqlite:/secret',
      SATCHEL_PORT: '1',
    })
    const shown = Object.fromEntries(rows.map(({ name, value }) => [name, value]))
    assert.equal(shown.SATCHEL_API_KEY, '(set)')
    assert.equal(shown.SATCHEL_DATABASE_URL, '(set)')
    assert.equal(shown.SATCHEL_PORT, '1')
    assert.ok(!JSON.stringify(rows).includes('a-key-from-a-file'))
  })

  test('every variable is printed with a sentence about it', () => {
    const rows = printableConfig({})
    assert.equal(rows.length, 22)
    for (const { name, about, isSet } of rows) {
      assert.match(name, /^SATCHEL_[A-Z0-9_]+$/)
      assert.match(about, /^[A-Z0-9a-z].+\.$/)
      assert.equal(isSet, false)
    }
  })
})
