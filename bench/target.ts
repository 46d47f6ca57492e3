/** What a step needs of a measured program. A program that cannot do something leaves it out. */
import type { Request } from './load.ts'

export type Size = 'small' | 'large'

/** What one run of a step plays. */
export type Plan = { port: number; requests: Request[] }

export type Running = {
  /** Watched with all its children. */
  readonly pid: number
  /** `count` uploads of new files. */
  uploads?(size: Size, count: number): Promise<Plan>
  /** GETs of files that are there, made now if need be; several, so that no cache of one file decides. */
  downloads?(size: Size): Promise<Plan>
  /** GETs of 50 KB each out of the middle of large files. */
  ranges?(): Promise<Plan>
  creates?(count: number): Promise<Plan>
  sends?(count: number): Promise<Plan>
  retrieves?(): Promise<Plan>
  /** Sends or fetches with a file at this https URL. */
  fetches?(count: number, url: string): Promise<Plan>
  stop(): Promise<void>
}

export type Target = {
  readonly name: string
  /** `limit`: what this machine can do at best. `peer`: another server for files. */
  readonly kind: 'ours' | 'limit' | 'peer'
  readonly about: string
  /** Why it cannot run here; undefined when it can. Installs what it needs. */
  missing?(): Promise<string | undefined>
  start(folder: string, tools: Tools): Promise<Running>
  /** Ends what `missing` has started for all of its runs. */
  release?(): Promise<unknown>
}

export type Tools = {
  readonly load: import('./load.ts').Load
  /** The certificate authority of the https origin. */
  readonly caPath: string
  /** Of a free port, another one each time. */
  port(): number
  /** host:port of the https origin, and of the webhook receiver. */
  readonly egress: string
}
