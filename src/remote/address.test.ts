/** The refused addresses are those of the IANA special-purpose registries and of the clouds' metadata services. */
import assert from 'node:assert/strict'
import { describe as group, test } from 'node:test'
import { describe, isAllowed, isPublic, parseEgressAllow } from './address.ts'

group('isPublic', () => {
  for (const address of [
    '1.1.1.1',
    '8.8.8.8',
    '93.184.216.34',
    '11.0.0.1',
    '100.63.255.255',
    '100.128.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '192.0.1.1',
    '198.17.255.255',
    '223.255.255.255',
    '2606:4700:4700::1111',
    '2a00:1450:4001:81b::200e',
    '::ffff:8.8.8.8',
    '::ffff:808:808',
    '64:ff9b::8.8.8.8',
  ])
    test(`${address} is`, () => assert.equal(isPublic(address), true))

  for (const address of [
    '0.0.0.0',
    '0.1.2.3',
    '10.0.0.1',
    '10.255.255.255',
    '100.64.0.1',
    '100.100.100.200',
    '100.127.255.255',
    '127.0.0.1',
    '127.1.2.3',
    '127.255.255.254',
    '168.63.129.16',
    '169.254.0.1',
    '169.254.169.254',
    '169.254.170.2',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.1',
    '192.0.0.192',
    '192.0.2.1',
    '192.88.99.1',
    '192.168.0.1',
    '198.18.0.1',
    '198.19.255.255',
    '198.51.100.1',
    '203.0.113.1',
    '224.0.0.1',
    '239.255.255.255',
    '240.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::7f00:1',
    '::127.0.0.1',
    '::8.8.8.8',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::ffff:10.0.0.1',
    '::ffff:169.254.169.254',
    '::ffff:168.63.129.16',
    '::ffff:0:8.8.8.8',
    '64:ff9b::127.0.0.1',
    '64:ff9b::7f00:1',
    '64:ff9b::a9fe:a9fe',
    '64:ff9b:1::8.8.8.8',
    '64:ff9b:1:ffff::1',
    '100::1',
    '2001::1',
    '2001:0:4136:e378:8000:63bf:3fff:fdd2',
    '2001:2::1',
    '2001:10::1',
    '2001:20::1',
    '2001:db8::1',
    '2002:7f00:1::1',
    '2002:808:808::1',
    '3fff::1',
    '4000::1',
    '5f00::1',
    '8000::1',
    'fc00::1',
    'fd00:ec2::254',
    'fd20:ce::254',
    'fe80::1',
    'fe80::1%eth0',
    '2606:4700:4700::1111%eth0',
    'fec0::1',
    'ff02::1',
    'ff0e::1',
    '',
    'localhost',
    '8.8.8',
    '8',
    '0x8.8.8.8',
    '010.8.8.8',
    '134744072',
    '[2606:4700:4700::1111]',
    ' 8.8.8.8',
    '8.8.8.8/32',
  ])
    test(`${JSON.stringify(address)} is not`, () => assert.equal(isPublic(address), false))
})

group('parseEgressAllow', () => {
  test('reads hosts, ports, stars, bracketed addresses and networks', () => {
    const allow = parseEgressAllow(' Minio.Internal:9000, bücher.example:*,[::1]:8443 ,127.1:80,, 10.0.0.0/8,fd00::/8,')
    assert.equal(
      describe(allow),
      'minio.internal:9000, xn--bcher-kva.example:*, [::1]:8443, 127.0.0.1:80, 10.0.0.0/8, fd00::/8',
    )
    assert.deepEqual(parseEgressAllow(describe(allow)), allow)
  })

  test('empty text opens nothing', () => {
    for (const text of ['', ' ', ',']) assert.equal(describe(parseEgressAllow(text)), 'nothing')
  })

  for (const [entry, complaint] of [
    ['minio', /"minio" is not a host with a port; write host:port/],
    ['minio:', /"minio:" is not a host with a port/],
    ['minio:http', /is not a host with a port/],
    ['::1:80', /"::1:80" is not a host with a port/],
    ['minio:0', /has a port outside 1 to 65535/],
    ['minio:65536', /has a port outside 1 to 65535/],
    ['*:80', /does not begin with a valid host name/],
    ['a b:80', /does not begin with a valid host name/],
    ['user@host:80', /does not begin with a valid host name/],
    ['[::g]:80', /does not begin with a valid host name/],
    ['[fe80::1%eth0]:80', /does not begin with a valid host name/],
    ['https://host:80', /"https:\/\/host:80" is not a network; write it like 10\.0\.0\.0\/8/],
    ['10.0.0.0/33', /is not a network/],
    ['fd00::/129', /is not a network/],
    ['::ffff:10.0.0.0/104', /is not a network/],
    ['10.0.0/8', /is not a network/],
    ['10.0.0.0/', /is not a network/],
    ['10.0.0.0/255.0.0.0', /is not a network/],
    ['10.1.2.3/8', /"10\.1\.2\.3\/8" has bits set behind its prefix; write 10\.0\.0\.0\/8/],
    ['fd00::1/8', /has bits set behind its prefix; write fd00::\/8/],
  ] as const)
    test(`names the bad entry in ${entry}`, () => {
      assert.throws(() => parseEgressAllow(`ok.example:443,${entry}`), complaint)
    })
})

group('isAllowed', () => {
  const allow = parseEgressAllow('minio.internal:9000, any.internal:*, [::1]:8443, 10.0.0.0/8, fd00:1::/32')
  const at = (host: string, port: number, address: string) => isAllowed(allow, { host, port, address })

  test('a listed host may have any address, on its port', () => {
    assert.equal(at('minio.internal', 9000, '192.168.1.1'), true)
    assert.equal(at('MINIO.internal.', 9000, '192.168.1.1'), true)
    assert.equal(at('minio.internal', 9001, '192.168.1.1'), false)
    assert.equal(at('any.internal', 1, '127.0.0.1'), true)
    assert.equal(at('not-any.internal', 1, '127.0.0.1'), false)
    assert.equal(at('x.any.internal', 1, '127.0.0.1'), false)
    assert.equal(at('[::1]', 8443, '::1'), true)
    assert.equal(at('localhost', 8443, '::1'), false)
  })

  test('a listed network may be reached under any name and port, in either notation', () => {
    assert.equal(at('x.example', 1, '10.255.0.1'), true)
    assert.equal(at('x.example', 1, '::ffff:10.255.0.1'), true)
    assert.equal(at('x.example', 1, 'fd00:1::5'), true)
    assert.equal(at('x.example', 1, '11.0.0.1'), false)
    assert.equal(at('x.example', 1, 'fd00:2::5'), false)
    assert.equal(at('x.example', 1, '64:ff9b::10.0.0.1'), false)
    assert.equal(at('x.example', 1, 'fd00:1::5%1'), false)
    assert.equal(at('x.example', 1, 'nonsense'), false)
  })
})
