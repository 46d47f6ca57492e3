/** Makes partners: the one that the configuration or the sandbox asks for at start, and those of `partners create`. */
import { randomBytes } from 'node:crypto'
import type { App } from '../app.ts'
import { type Bit, type Db, isUniqueViolation } from '../db/schema.ts'
import { hashApiKey } from '../http/auth.ts'
import { findApiKey, findPhoneNumber, insertPartner, insertPhoneNumber, listPhoneNumbers, lockPartner } from './rows.ts'

/** `ephemeral` only counts for a partner that is made now. */
export type NewPartner = { name: string; apiKey: string; phoneNumbers: readonly string[]; ephemeral?: Bit }

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
export async function ensurePartner(app: Writer, partner: NewPartner): Promise<string> {
  try {
    return await writePartner(app, partner)
  } catch (error) {
    // Another node made it at the same time: now it is there, or the line is.
    if (isUniqueViolation(error)) return await writePartner(app, partner)
    throw error
  }
}

type Writer = Pick<App, 'db' | 'clock' | 'newId'>

async function writePartner(app: Writer, partner: NewPartner): Promise<string> {
  return await app.db.transaction().execute(async (tx) => {
    const keyHash = hashApiKey(partner.apiKey)
    const known = await findApiKey(tx, keyHash)
    const id = known?.partner_id ?? app.newId()
    const now = app.clock.now()
    if (!known) {
      const row = { id, name: partner.name, created_at: now, ephemeral: partner.ephemeral ?? 0 }
      await insertPartner(tx, row, keyHash)
    }
    for (const phoneNumber of partner.phoneNumbers) {
      const line = await findPhoneNumber(tx, phoneNumber)
      if (line && line.partner_id !== id) throw new PhoneNumberTaken(phoneNumber)
      if (!line)
        await insertPhoneNumber(tx, { id: app.newId(), partner_id: id, phone_number: phoneNumber, created_at: now })
    }
    return id
  })
}

/** The lines of a partner, oldest first; two of the sandbox's when it has none. Of many nodes at once, one makes them. */
export async function ensureLines(app: Writer, partnerId: string): Promise<string[]> {
  return await app.db.transaction().execute(async (tx) => {
    await lockPartner(tx, partnerId)
    const known = await phoneNumbersOf(tx, partnerId)
    if (known.length > 0) return known
    const free = await freeSandboxNumbers(tx)
    const now = app.clock.now()
    for (const number of free) {
      await insertPhoneNumber(tx, { id: app.newId(), partner_id: partnerId, phone_number: number, created_at: now })
    }
    return free
  })
}

/** Two lines of the range that is kept for fiction (+1 202 555 0100 to 0199) and that nobody here has. */
async function freeSandboxNumbers(db: Db): Promise<string[]> {
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
