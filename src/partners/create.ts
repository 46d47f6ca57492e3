/** Makes partners: the one that the configuration or the sandbox asks for at start, and those of `partners create`. */
import { randomBytes } from 'node:crypto'
import type { App } from '../app.ts'
import type { Db } from '../db/schema.ts'
import { hashApiKey } from '../http/auth.ts'
import { findApiKey, findPhoneNumber, insertPartner, insertPhoneNumber, listPhoneNumbers } from './rows.ts'

export type NewPartner = { name: string; apiKey: string; phoneNumbers: readonly string[] }

/** A line can belong to one partner only. */
export class PhoneNumberTaken extends Error {
  readonly phoneNumber: string
  constructor(phoneNumber: string) {
    super(`${phoneNumber} belongs to another partner already`)
    this.name = 'PhoneNumberTaken'
    this.phoneNumber = phoneNumber
  }
}

/** 256 random bits; the prefix tells people and secret scanners what it is. */
export const newApiKey = (): string => `satchel_${randomBytes(32).toString('base64url')}`

/**
 * The partner of this API key with at least these lines, made where it is missing; calling it again changes nothing.
 * Lines that the partner has and the list lacks stay. Throws PhoneNumberTaken, and then nothing was written.
 */
export async function ensurePartner(app: Pick<App, 'db' | 'clock' | 'newId'>, partner: NewPartner): Promise<string> {
  return await app.db.transaction().execute(async (tx) => {
    const keyHash = hashApiKey(partner.apiKey)
    const known = await findApiKey(tx, keyHash)
    const id = known?.partner_id ?? app.newId()
    const now = app.clock.now()
    if (!known) await insertPartner(tx, { id, name: partner.name, created_at: now }, keyHash)
    for (const phoneNumber of partner.phoneNumbers) {
      const line = await findPhoneNumber(tx, phoneNumber)
      if (line && line.partner_id !== id) throw new PhoneNumberTaken(phoneNumber)
      if (!line)
        await insertPhoneNumber(tx, { id: app.newId(), partner_id: id, phone_number: phoneNumber, created_at: now })
    }
    return id
  })
}

/** Two lines of the range that is kept for fiction (+1 202 555 0100 to 0199) and that nobody here has. */
export async function freeSandboxNumbers(db: Db): Promise<string[]> {
  const free: string[] = []
  for (let suffix = 100; suffix < 200 && free.length < 2; suffix++) {
    const number = `+12025550${suffix}`
    if (!(await findPhoneNumber(db, number))) free.push(number)
  }
  return free
}

/** The lines of a partner, oldest first. */
export async function phoneNumbersOf(db: Db, partnerId: string): Promise<string[]> {
  return (await listPhoneNumbers(db, partnerId)).map((line) => line.phone_number)
}
