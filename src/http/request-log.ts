/** The log of one request, whose lines bear its trace id. Made when the first line is written: most requests write none. */
import type { FastifyBaseLogger } from 'fastify'

type Bindings = Parameters<FastifyBaseLogger['child']>[0]

export class RequestLog implements FastifyBaseLogger {
  readonly #parent: FastifyBaseLogger
  readonly #bindings: Bindings
  #made: FastifyBaseLogger | undefined

  constructor(parent: FastifyBaseLogger, bindings: Bindings) {
    this.#parent = parent
    this.#bindings = bindings
  }

  get #log(): FastifyBaseLogger {
    this.#made ??= this.#parent.child(this.#bindings)
    return this.#made
  }

  get level(): string {
    return this.#parent.level
  }
  child(...o: Parameters<FastifyBaseLogger['child']>): FastifyBaseLogger {
    return this.#log.child(...o)
  }
  fatal(...line: unknown[]): void {
    this.#log.fatal(...(line as [string]))
  }
  error(...line: unknown[]): void {
    this.#log.error(...(line as [string]))
  }
  warn(...line: unknown[]): void {
    this.#log.warn(...(line as [string]))
  }
  info(...line: unknown[]): void {
    this.#log.info(...(line as [string]))
  }
  debug(...line: unknown[]): void {
    this.#log.debug(...(line as [string]))
  }
  trace(...line: unknown[]): void {
    this.#log.trace(...(line as [string]))
  }
  silent(): void {}
}
