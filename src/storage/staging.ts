/**
 * What only a bucket can do: take an upload straight from the client. The bytes wait under a staging key that follows from
 * the attachment, where the client may still replace them; they are copied to a key of their own before anyone looks.
 * A second, small interface beside Storage, whose `stat` and `delete` work for staged objects too.
 */
export interface Staging {
  /**
   * Where the client may PUT exactly these bytes' number under exactly this type. Asks nobody, but for credentials that have
   * run out. `now` is real time in ms since 1970, since the bucket's clock cannot be moved.
   */
  uploadUrl(o: {
    key: string
    contentType: string
    sizeBytes: number
    now: number
    expiresSeconds: number
  }): Promise<string>
  /** Copies within the bucket. False: there is no such key. */
  copy(from: string, to: string, signal?: AbortSignal): Promise<boolean>
}

const FOLDER = 'staging'

export const stagingKey = (attachmentId: string): string => `${FOLDER}/${attachmentId.slice(-2)}/${attachmentId}`
