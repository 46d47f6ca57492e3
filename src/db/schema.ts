/**
 * One type per table. Kysely is the interface to the database and is not wrapped again: every function of a rows.ts takes
 * a Db first, and a transaction is one too. Columns mean the same in SQLite and PostgreSQL: text, integers, times in
 * milliseconds since 1970, JSON as text, truth as 0 or 1.
 */
import type { Generated, Insertable, Kysely, Selectable } from 'kysely'

export type Bit = 0 | 1
export type Service = 'iMessage' | 'SMS' | 'RCS'
export type DeliveryStatus = 'pending' | 'queued' | 'sent' | 'delivered' | 'received' | 'read' | 'failed'

export type PartnersTable = {
  id: string
  name: string
  created_at: number
  /** 1: what this partner uploads, fetches and receives vanishes after a day. */
  ephemeral: Generated<Bit>
}

/** Keys are kept as SHA-256 in hex: they are random and long, so a slow hash would only slow each request. */
export type ApiKeysTable = { key_hash: string; partner_id: string; created_at: number }

export type PhoneNumbersTable = {
  id: string
  partner_id: string
  phone_number: string
  created_at: number
  /** 1: what is sent or received with this line vanishes after a day. */
  ephemeral: Generated<Bit>
}

export type AttachmentsTable = {
  id: string
  partner_id: string
  filename: string
  /** As the caller declared it, letter for letter: it is part of what the upload URL signs. */
  declared_type: string
  /** The canonical type we report. */
  content_type: string
  size_bytes: number
  status: 'pending' | 'complete' | 'failed'
  source: 'upload' | 'url' | 'inbound'
  /** Where the bytes are; set exactly when status is complete. */
  storage_key: string | null
  /** SHA-256 of the bytes in hex; set exactly when status is complete. */
  sha256: string | null
  /** Why the content was refused; set exactly when status is failed. */
  refusal: 'bad_file_type' | 'content_mismatch' | null
  refusal_message: string | null
  created_at: number
  upload_expires_at: number
  completed_at: number | null
  /** Only of the ephemeral tier: from then on it counts as deleted, whether its row is gone yet or not. */
  vanishes_at: number | null
}

/** Audit of deletions, kept for ever: what of whom went when, because it was asked for or because its day was over. */
export type AttachmentDeletionsTable = {
  attachment_id: string
  partner_id: string
  deleted_at: number
  reason: Generated<'request' | 'vanished'>
}

export type ChatsTable = {
  id: string
  partner_id: string
  phone_number: string
  is_group: Bit
  display_name: string | null
  service: Service
  /** The sorted set of recipients; null once the chat must not be reused for them. */
  recipients_key: string | null
  health_status: 'HEALTHY' | 'AT_RISK' | 'CRITICAL' | 'OPTED_OUT'
  health_updated_at: number
  /** When our line left the group. */
  left_at: number | null
  created_at: number
  updated_at: number
}

export type ChatHandlesTable = {
  id: string
  chat_id: string
  position: number
  handle: string
  service: Service
  status: 'active' | 'left' | 'removed'
  is_me: Bit
  joined_at: number
  left_at: number | null
}

export type MessagesTable = {
  id: string
  chat_id: string
  partner_id: string
  direction: 'inbound' | 'outbound'
  sender_handle_id: string
  delivery_status: DeliveryStatus
  service: Service
  preferred_service: Service | null
  effect: string | null
  reply_to_message_id: string | null
  reply_to_part_index: number | null
  idempotency_key: string | null
  trace_id: string
  /** What the carrier calls this message, once it has taken it. */
  carrier_ref: string | null
  created_at: number
  updated_at: number
  sent_at: number | null
  delivered_at: number | null
  read_at: number | null
  /** Deleted before the carrier had it: nobody sees it any more, and it is removed once it is handed over. */
  deleted_at: number | null
}

export type MessagePartsTable = {
  message_id: string
  position: number
  type: 'text' | 'media' | 'link'
  value: string | null
  text_decorations: string | null
  /** Kept when the attachment is deleted: the part then has no attachment to join. */
  attachment_id: string | null
}

/** The first answer to a key, kept for ever; when its message is gone, the key answers 404. */
export type IdempotencyKeysTable = {
  partner_id: string
  key: string
  message_id: string
  status: number
  response: string
  created_at: number
}

export type JobsTable = {
  id: string
  kind: string
  payload: string
  run_at: number
  attempt: number
  /** Someone works on it until then; 0 when nobody does. */
  leased_until: number
  /** The node that has or had the lease, so that it can give it back when it starts again. */
  leased_by: string | null
  last_error: string | null
  /** When it was given up; such a job is kept for a person to look at. */
  failed_at: number | null
  created_at: number
}

export type WebhookVersion = '2026-02-03' | '2025-01-01'

export type WebhookSubscriptionsTable = {
  id: string
  partner_id: string
  target_url: string
  webhook_version: WebhookVersion
  /** JSON array of event types. */
  subscribed_events: string
  /** JSON array of lines; null means all. */
  phone_numbers: string | null
  is_active: Bit
  signing_secret: string
  /** After a rotation both secrets sign until `old_secret_until`. */
  old_secret: string | null
  old_secret_until: number | null
  /** Attempts that failed in a row; from some number on the circuit is open until `open_until`. */
  failures: number
  open_until: number
  created_at: number
  updated_at: number
}

/** What happened, as it is told: the `data` of a webhook, serialised once. */
export type EventsTable = {
  id: string
  partner_id: string
  type: string
  chat_id: string | null
  message_id: string | null
  trace_id: string
  data: string
  /** `data` in payload version 2025-01-01, where that differs. */
  data_2025: string | null
  created_at: number
}

/** One event owed to one subscription. */
export type WebhookDeliveriesTable = {
  id: string
  subscription_id: string
  event_id: string
  partner_id: string
  chat_id: string | null
  status: 'pending' | 'delivered' | 'failed'
  attempts: number
  next_attempt_at: number
  leased_until: number
  leased_by: string | null
  last_error: string | null
  created_at: number
  finished_at: number | null
}

export type WebhookAttemptsTable = {
  id: string
  delivery_id: string
  started_at: number
  latency_ms: number
  /** HTTP status; null when there was no answer. */
  status: number | null
  error: string | null
  url: string
  /** JSON object: the request's headers, as they were sent. */
  headers: string
}

/** How far `migrate-data` has come into this database: one row for each table, and one for the objects. */
export type MigratedDataTable = {
  step: string
  /** What it is copied from, so that two sources are not mixed. */
  source: string
  /** JSON: the key of the last row that was copied; null before the first. */
  last_key: string | null
  copied: number
  finished_at: number | null
}

/** What was made at the first start and has to be the same on every node. SQLite keeps such secrets in files instead. */
export type SecretsTable = { name: string; value: string; created_at: number }

export type Schema = {
  partners: PartnersTable
  api_keys: ApiKeysTable
  phone_numbers: PhoneNumbersTable
  attachments: AttachmentsTable
  attachment_deletions: AttachmentDeletionsTable
  chats: ChatsTable
  chat_handles: ChatHandlesTable
  messages: MessagesTable
  message_parts: MessagePartsTable
  idempotency_keys: IdempotencyKeysTable
  jobs: JobsTable
  webhook_subscriptions: WebhookSubscriptionsTable
  events: EventsTable
  webhook_deliveries: WebhookDeliveriesTable
  webhook_attempts: WebhookAttemptsTable
  secrets: SecretsTable
  migrated_data: MigratedDataTable
}

export type Db = Kysely<Schema>
export type Row<T extends keyof Schema> = Selectable<Schema[T]>
export type NewRow<T extends keyof Schema> = Insertable<Schema[T]>

/** A database that is open and migrated. `skipLocked`: other processes may work on it at the same time, and claim jobs. */
export type Opened = {
  readonly db: Db
  readonly skipLocked: boolean
  /** Names of the migrations that opening ran. */
  readonly migrated: readonly string[]
  [Symbol.asyncDispose](): Promise<void>
}

/** SQLite's extended result codes for unique and primary key (https://sqlite.org/rescode.html), PostgreSQL's SQLSTATE. */
const UNIQUE_VIOLATIONS: readonly unknown[] = [2067, 1555, '23505']

/** True when a write broke a unique or primary key constraint, on any of our databases. */
export function isUniqueViolation(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  return ['errcode', 'code'].some((name) =>
    UNIQUE_VIOLATIONS.includes((error as unknown as Record<string, unknown>)[name]),
  )
}
