/** Where media by URL comes from: nginx over TLS on loopback, with a certificate of an authority made for this run. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeCertificates } from '../test/support/certificates.ts'
import { MIDDLE, readBody } from './bodies.ts'
import { isListening, Program } from './process.ts'

export type Origin = { caPath: string; port: number; fileUrl: string; start(): Promise<Program> }

export async function prepareOrigin(folder: string, port: number, bodies: string): Promise<Origin> {
  const files = join(folder, 'files')
  mkdirSync(files, { recursive: true })
  const { ca, cert, key } = await makeCertificates()
  const caPath = join(folder, 'ca.pem')
  writeFileSync(caPath, ca)
  writeFileSync(join(folder, 'cert.pem'), cert)
  writeFileSync(join(folder, 'key.pem'), key, { mode: 0o600 })
  writeFileSync(join(files, 'film.mov'), readBody(bodies, MIDDLE))
  writeFileSync(join(folder, 'nginx.conf'), configuration(folder, port))
  return {
    caPath,
    port,
    fileUrl: `https://localhost:${port}/film.mov`,
    async start() {
      const conf = join(folder, 'nginx.conf')
      const program = new Program('nginx', ['-p', folder, '-c', conf, '-e', join(folder, 'error.log')])
      await program.waitFor(() => isListening(port))
      return program
    },
  }
}

const configuration = (folder: string, port: number) => `
daemon off;
user root;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log error;
events { worker_connections 256; }
http {
  access_log off;
  sendfile on;
  types { video/quicktime mov; }
  keepalive_requests 1000000000;
  client_body_temp_path ${folder}/t0; proxy_temp_path ${folder}/t1; fastcgi_temp_path ${folder}/t2;
  uwsgi_temp_path ${folder}/t3; scgi_temp_path ${folder}/t4;
  server {
    listen 127.0.0.1:${port} ssl backlog=1024;
    ssl_certificate ${folder}/cert.pem;
    ssl_certificate_key ${folder}/key.pem;
    root ${folder}/files;
  }
}
`
