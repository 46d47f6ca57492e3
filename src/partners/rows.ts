/** Partners, their API keys and their lines. */
import { prepared } from '../db/prepared.ts'
import type { Bit, Db, NewRow, Row } from '../db/schema.ts'

const keyByHash = prepared((db, { keyHash }: { keyHash: string }) =>
  db.selectFrom('api_keys').selectAll().where('key_hash', '=', keyHash),
)

export function findApiKey(db: Db, keyHash: string): Promise<Row<'api_keys'> | undefined> {
  return keyByHash.first(db, { keyHash })
}

export async function insertApiKey(db: Db, row: NewRow<'api_keys'>): Promise<void> {
  await db.insertInto('api_keys').values(row).execute()
}

/** Oldest first. */
export function listApiKeys(db: Db, partnerId: string): Promise<Row<'api_keys'>[]> {
  return db.selectFrom('api_keys').selectAll().where('partner_id', '=', partnerId).orderBy('created_at').execute()
}

export async function removeApiKey(db: Db, keyHash: string): Promise<void> {
  await db.deleteFrom('api_keys').where('key_hash', '=', keyHash).execute()
}

export async function insertPartner(db: Db, partner: NewRow<'partners'>, keyHash: string): Promise<void> {
  await db.insertInto('partners').values(partner).execute()
  await db
    .insertInto('api_keys')
    .values({ key_hash: keyHash, partner_id: partner.id, created_at: partner.created_at })
    .execute()
}

/** Until the transaction ends nobody else passes here with the same partner. */
export async function lockPartner(tx: Db, id: string): Promise<void> {
  await tx.selectFrom('partners').select('id').where('id', '=', id).forUpdate().execute()
}

export async function lockLine(tx: Db, phoneNumber: string): Promise<void> {
  await tx.selectFrom('phone_numbers').select('id').where('phone_number', '=', phoneNumber).forUpdate().execute()
}

export function listPartners(db: Db): Promise<Row<'partners'>[]> {
  return db.selectFrom('partners').selectAll().orderBy('created_at').orderBy('id').execute()
}

const tierOf = prepared((db, of: { partnerId: string; phoneNumber: string }) =>
  db
    .selectFrom('partners as p')
    .leftJoin('phone_numbers as n', (join) =>
      join.onRef('n.partner_id', '=', 'p.id').on('n.phone_number', '=', of.phoneNumber),
    )
    .select(['p.ephemeral as partner', 'n.ephemeral as line'])
    .where('p.id', '=', of.partnerId),
)

/** Which of the two make what they touch ephemeral. */
export async function findTier(
  db: Db,
  of: { partnerId: string; phoneNumber?: string },
): Promise<{ partner: boolean; line: boolean }> {
  const row = await tierOf.first(db, { phoneNumber: '', ...of })
  return { partner: row?.partner === 1, line: row?.line === 1 }
}

/** True when there is such a partner. */
export async function setPartnerTier(db: Db, id: string, ephemeral: Bit): Promise<boolean> {
  const { numUpdatedRows } = await db.updateTable('partners').set({ ephemeral }).where('id', '=', id).executeTakeFirst()
  return numUpdatedRows === 1n
}

/** True when there is such a line. */
export async function setLineTier(db: Db, phoneNumber: string, ephemeral: Bit): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('phone_numbers')
    .set({ ephemeral })
    .where('phone_number', '=', phoneNumber)
    .executeTakeFirst()
  return numUpdatedRows === 1n
}

const lineByNumber = prepared((db, { phoneNumber }: { phoneNumber: string }) =>
  db.selectFrom('phone_numbers').selectAll().where('phone_number', '=', phoneNumber),
)

export function findPhoneNumber(db: Db, phoneNumber: string): Promise<Row<'phone_numbers'> | undefined> {
  return lineByNumber.first(db, { phoneNumber })
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

/** Of all partners, in their order. */
export function listLines(db: Db): Promise<Row<'phone_numbers'>[]> {
  return db.selectFrom('phone_numbers').selectAll().orderBy('partner_id').orderBy('created_at').orderBy('id').execute()
}

export async function insertPhoneNumber(db: Db, row: NewRow<'phone_numbers'>): Promise<void> {
  await db.insertInto('phone_numbers').values(row).execute()
}
