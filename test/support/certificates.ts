/**
 * A certificate authority of one run and a server certificate from it, so that tests speak real TLS on loopback.
 * Nothing is written to disk; who is to trust the server gets `ca`.
 */
import { generate } from 'selfsigned'

export type Certificates = {
  /** PEM of the authority. */
  ca: string
  /** PEM of the server's key and certificate. */
  key: string
  cert: string
}

/** For `localhost`, 127.0.0.1, ::1 and the given host names. `expired` makes a certificate that ended yesterday. */
export async function makeCertificates(names: string[] = [], o: { expired?: boolean } = {}): Promise<Certificates> {
  const day = 24 * 3600 * 1000
  const common = { keyType: 'ec', algorithm: 'sha256', notBeforeDate: new Date(Date.now() - 10 * day) } as const
  const authority = await generate([{ name: 'commonName', value: 'Satchel test authority' }], {
    ...common,
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    ],
  })
  const server = await generate([{ name: 'commonName', value: 'localhost' }], {
    ...common,
    notAfterDate: new Date(Date.now() + (o.expired ? -day : day)),
    ca: { key: authority.private, cert: authority.cert },
    extensions: [
      { name: 'basicConstraints', cA: false },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [
          ...['localhost', ...names].map((value) => ({ type: 2 as const, value })),
          { type: 7, ip: '127.0.0.1' },
          { type: 7, ip: '::1' },
        ],
      },
    ],
  })
  return { ca: authority.cert, key: server.private, cert: server.cert }
}
