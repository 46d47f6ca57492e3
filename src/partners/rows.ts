/** Partners, their API keys and their lines. */
import type { Db, NewRow, Row } from '../db/schema.ts'

export function findApiKey(db: Db, keyHash: string): Promise<Row<'api_keys'> | undefined> {
  return db.selectFrom('api_keys').selectAll().where('key_hash', '=', keyHash).executeTakeFirst()
}

export async function insertPartner(db: Db, partner: NewRow<'partners'>, keyHash: string): Promise<void> {
  await db.insertInto('partners').values(partner).execute()
  await db
    .insertInto('api_keys')
    .values({ key_hash: keyHash, partner_id: partner.id, created_at: partner.created_at })
    .execute()
}

export function listPartners(db: Db): Promise<Row<'partners'>[]> {
  return db.selectFrom('partners').selectAll().orderBy('created_at').orderBy('id').execute()
}

export function findPhoneNumber(db: Db, phoneNumber: string): Promise<Row<'phone_numbers'> | undefined> {
  return db.selectFrom('phone_numbers').selectAll().where('phone_number', '=', phoneNumber).executeTakeFirst()
}

export function listPhoneNumbers(db: Db, partnerId: string): Promise<Row<'phone_numbers'>[]> {
  return db
    .selectFrom('phone_numbers')
    .selectAll()
    .where('partner_id', '=', partnerId)
    .orderBy('created_at')
    .orderBy('id')
    .execute()
}

export async function insertPhoneNumber(db: Db, row: NewRow<'phone_numbers'>): Promise<void> {
  await db.insertInto('phone_numbers').values(row).execute()
}
