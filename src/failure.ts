/**
 * The one error that operations throw on purpose, and the one table that says what each failure is on the wire.
 * Numbers, texts and statuses are those of the Linq Partner API v3 (https://docs.linqapp.com/error/codes/).
 * Whatever is thrown that is not a Failure is a bug and becomes 3006 (http/respond.ts).
 */

const TABLE = {
  missing_field: [1001, 400, 'Missing required field'],
  bad_phone_number: [1002, 400, 'Phone number must be in E.164 format'],
  bad_body: [1003, 400, 'Invalid request body'],
  bad_message: [1004, 400, 'Invalid message content'],
  bad_parameter: [1005, 400, 'Invalid parameter value'],
  method_not_allowed: [1005, 405, 'Method not allowed'],
  headers_too_large: [1005, 431, 'Request headers are too large'],
  request_timeout: [1003, 408, 'The request took too long to arrive'],
  direct_chat: [1006, 409, 'Cannot update direct message chats'],
  rate_limited: [1007, 429, 'Rate limit exceeded'],
  not_found: [2001, 404, 'Resource not found'],
  chat_not_found: [2001, 404, 'Chat not found'],
  message_not_found: [2002, 404, 'Message not found'],
  attachment_not_found: [2003, 404, 'Attachment not found'],
  unauthorized: [2004, 401, 'Unauthorized'],
  access_denied: [2005, 403, 'Access denied'],
  phone_number_forbidden: [2006, 403, 'Phone number permission denied'],
  attachment_not_ready: [2007, 404, 'Attachment not ready'],
  chat_being_created: [2009, 409, 'The chat is still being created'],
  subscription_not_found: [2010, 404, 'Webhook subscription not found'],
  feature_unavailable: [2011, 403, 'Feature not available'],
  chat_unavailable: [2013, 409, 'This chat is unavailable'],
  conflict: [2015, 409, 'Operation conflicts with current state'],
  phone_number_not_found: [2019, 404, 'Phone number not found'],
  database_unavailable: [3001, 503, 'Server connection error'],
  storage_unavailable: [3001, 503, 'Server connection error'],
  database_failed: [3002, 500, 'Server operation failed'],
  carrier_unavailable: [3003, 500, 'Service connection error'],
  carrier_failed: [3004, 500, 'Service operation failed'],
  internal: [3006, 500, 'Internal server error'],
  overloaded: [4004, 503, 'Service unavailable'],
  message_type_unsupported: [4005, 422, 'Recipient does not support this message type'],
  upload_failed: [5001, 500, 'File upload failed'],
  storage_full: [5001, 503, 'File upload failed: the storage is full'],
  download_failed: [5002, 500, 'File download failed'],
  upload_url_failed: [5003, 500, 'Failed to generate file URL'],
  bad_file_type: [5004, 400, 'Invalid file type'],
  file_too_large: [5005, 400, 'File too large'],
  content_mismatch: [5006, 400, 'Content type mismatch'],
} as const satisfies Record<string, readonly [number, number, string]>

export type FailureName = keyof typeof TABLE

/**
 * A refusal that is meant for the caller. `message` is written for the caller: it never holds a path of this machine, SQL,
 * a secret or what an upstream server said. `cause` goes to the log only.
 */
export class Failure extends Error {
  readonly failure: FailureName
  /** Contract code, e.g. 2003. */
  readonly code: number
  /** HTTP status, e.g. 404. */
  readonly status: number

  /** Only for rate_limited: when to come back. */
  readonly retryAfterSeconds: number | undefined

  constructor(failure: FailureName, message?: string, options?: { cause?: unknown; retryAfterSeconds?: number }) {
    super(message ?? TABLE[failure][2], options)
    this.retryAfterSeconds = options?.retryAfterSeconds
    this.name = 'Failure'
    this.failure = failure
    this.code = TABLE[failure][0]
    this.status = TABLE[failure][1]
  }
}

/** The failure that a contract code stands for, the most telling where several share it; undefined for an unknown code. */
export function failureOfCode(code: number): FailureName | undefined {
  return (Object.keys(TABLE) as FailureName[]).find((name) => TABLE[name][0] === code)
}
