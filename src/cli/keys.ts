/** `satchel keys create`, `list` and `revoke`: a partner may have several API keys, which is how one is replaced by another. */
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { systemClock } from '../clock.ts'
import { loadConfig } from '../config.ts'
import { BELIEVED_MS, hashApiKey } from '../http/auth.ts'
import { iso } from '../http/schemas.ts'
import { openDatabase } from '../open.ts'
import { newApiKey } from '../partners/create.ts'
import { insertApiKey, listApiKeys, listPartners, removeApiKey } from '../partners/rows.ts'

const HELP = `satchel keys create PARTNER_ID
satchel keys list PARTNER_ID
satchel keys revoke PARTNER_ID KEY_ID

To replace a key: create another, give it to whoever calls, revoke the old one; it has ended when
the command has. A partner's last key cannot be revoked. KEY_ID is the beginning of the key's SHA-256, which is all that is kept of it. Works while the server runs.
`
const ID_LENGTH = 12

export async function keys(argv: string[], out: Out): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: { help: { type: 'boolean', short: 'h' } },
  })
  const [action = '', partnerId, keyId] = positionals
  const isComplete = action === 'revoke' ? /^[0-9a-f]{12,64}$/.test(keyId ?? '') : ['create', 'list'].includes(action)
  if (values.help || !isComplete || partnerId === undefined) {
    ;(values.help ? out.stdout : out.stderr)(HELP)
    return values.help ? 0 : 2
  }
  await using opened = await openDatabase(loadConfig().databaseUrl)
  const { db } = opened
  if (!(await listPartners(db)).some(({ id }) => id === partnerId)) {
    out.stderr(`satchel: there is no partner ${partnerId}; see satchel partners list\n`)
    return 1
  }
  if (action === 'create') {
    const key = newApiKey()
    const hash = hashApiKey(key)
    await insertApiKey(db, { key_hash: hash, partner_id: partnerId, created_at: systemClock.now() })
    out.stdout(`API key  ${key}   (shown only now)\nkey id   ${hash.slice(0, ID_LENGTH)}\n`)
    return 0
  }
  const known = await listApiKeys(db, partnerId)
  if (action === 'list') {
    for (const row of known) out.stdout(`${row.key_hash.slice(0, ID_LENGTH)}  ${iso(row.created_at)}\n`)
    return 0
  }
  const [found, another] = known.filter((row) => row.key_hash.startsWith(keyId ?? ''))
  if (!found || another || known.length === 1) {
    const why = known.length === 1 && found ? 'it is the only key of this partner' : 'this partner has no such key'
    out.stderr(`satchel: ${why}; nothing was revoked\n`)
    return 1
  }
  await removeApiKey(db, found.key_hash)
  // Who asked for it just before that believes it for so long.
  await systemClock.sleep(BELIEVED_MS)
  out.stdout(`${found.key_hash.slice(0, ID_LENGTH)} is revoked.\n`)
  return 0
}
