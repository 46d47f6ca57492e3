/**
 * Why a call to a stranger's host failed, as a kind to decide on.
 * Messages name neither addresses nor URLs; what Node or undici said is the `cause` and meant for the log.
 */

export type RemoteErrorKind = 'dns' | 'refused' | 'tls' | 'timeout' | 'forbidden' | 'network'

const MESSAGE = {
  dns: 'the host name could not be resolved',
  refused: 'the host refused the connection',
  tls: 'no secure connection could be made; check the certificate of the host',
  timeout: 'the host took too long',
  forbidden: 'the address may not be called',
  network: 'the connection broke off',
} as const satisfies Record<RemoteErrorKind, string>

/** `timeout` covers the whole call; `forbidden` is our own refusal, made before anything was dialled. */
export class RemoteError extends Error {
  readonly kind: RemoteErrorKind

  constructor(kind: RemoteErrorKind, message?: string, options?: { cause?: unknown }) {
    super(message ?? MESSAGE[kind], options)
    this.name = 'RemoteError'
    this.kind = kind
  }
}

/** What an error of node:net, node:tls, node:dns or undici means, judged by its code. */
export function toRemoteError(error: unknown): RemoteError {
  if (error instanceof RemoteError) return error
  return new RemoteError(kindOf(error instanceof Error ? error : new Error(String(error))), undefined, { cause: error })
}

function kindOf(error: Error & { code?: unknown; syscall?: unknown }): RemoteErrorKind {
  const code = String(error.code ?? '')
  if (error.syscall === 'getaddrinfo' || /^(ENOTFOUND|ENODATA|EAI_\w+)$/.test(code)) return 'dns'
  if (code === 'ECONNREFUSED') return 'refused'
  if (/^(ETIMEDOUT|UND_ERR_\w*TIMEOUT)$/.test(code)) return 'timeout'
  // The codes of X.509 verification (openssl-verification-options(1)) have no common prefix.
  if (/^(ERR_TLS_|ERR_SSL_|EPROTO$|CERT_|CRL_|UNABLE_TO_|ERROR_IN_CERT|SELF_SIGNED_|DEPTH_ZERO_)/.test(code))
    return 'tls'
  if (/^(INVALID_(CA|PURPOSE)|PATH_LENGTH_EXCEEDED|HOSTNAME_MISMATCH)$/.test(code)) return 'tls'
  return 'network'
}
