/** What is wrong between two variables although each is right by itself, one sentence each. */
import { ROLES, type Role } from './roles.ts'
import type { Values } from './table.ts'

/** All of it, for a node of these roles. */
export function faultsBetween(roles: readonly Role[], v: Values): string[] {
  return [...checkPorts(v), ...checkGateway(v), ...checkRoles(roles, v), ...checkS3(v)]
}

function checkPorts(v: Values): string[] {
  if (!v.SATCHEL_PORT || v.SATCHEL_PORT !== v.SATCHEL_CDN_PORT) return []
  return ['SATCHEL_CDN_PORT: must differ from SATCHEL_PORT; the CDN is another origin on purpose.']
}

function checkGateway({ SATCHEL_GATEWAY_URL: url, SATCHEL_GATEWAY_SECRET: secret }: Values): string[] {
  if ((url === undefined) === (secret === undefined)) return []
  return secret === undefined
    ? ['SATCHEL_GATEWAY_SECRET: must be set with SATCHEL_GATEWAY_URL.']
    : ['SATCHEL_GATEWAY_URL: must be set with SATCHEL_GATEWAY_SECRET.']
}

/** What a node that leaves something to others must know of them. */
function checkRoles(roles: readonly Role[], v: Values): string[] {
  if (roles.length === ROLES.length) return []
  const without = `on a node with --role ${roles.join(',')}`
  const faults: string[] = []
  if (!v.SATCHEL_DATABASE_URL || v.SATCHEL_DATABASE_URL.startsWith('sqlite:')) {
    faults.push(
      `SATCHEL_DATABASE_URL: must be postgres://... ${without}; SQLite serves one process that does everything.`,
    )
  }
  if (!v.SATCHEL_STORAGE_URL) {
    faults.push(`SATCHEL_STORAGE_URL: must be set ${without}: the nodes share their files.`)
  }
  if (!roles.includes('edge') && !v.SATCHEL_CDN_URL) {
    faults.push(`SATCHEL_CDN_URL: must be set ${without}: uploads and downloads are served by others.`)
  }
  return faults
}

/** What belongs to a bucket is a mistake without one. */
function checkS3(v: Values): string[] {
  const faults: string[] = []
  const isBucket = v.SATCHEL_STORAGE_URL?.startsWith('s3:') ?? false
  if (v.SATCHEL_UPLOADS === 'direct' && !isBucket) {
    faults.push('SATCHEL_UPLOADS: direct needs a bucket in SATCHEL_STORAGE_URL.')
  }
  const [id, secret] = [v.SATCHEL_S3_ACCESS_KEY_ID, v.SATCHEL_S3_SECRET_ACCESS_KEY]
  if ((id === undefined) !== (secret === undefined)) {
    faults.push('SATCHEL_S3_SECRET_ACCESS_KEY: must be set together with SATCHEL_S3_ACCESS_KEY_ID.')
  }
  if (v.SATCHEL_S3_SESSION_TOKEN !== undefined && id === undefined) {
    faults.push('SATCHEL_S3_SESSION_TOKEN: needs SATCHEL_S3_ACCESS_KEY_ID.')
  }
  return faults
}
