/** What is measured, and the goals: each a ratio to another target in the same run, or a limit of its own. */
import type { Plan, Running } from './target.ts'

export type Goal =
  | { against: 'nginx' | 'bare node' | 'each peer' | 'satchel'; atLeast: number }
  | { against: 'satchel'; atMost: number }
  | { atMost: number; of: 'growthMb' | 'value' }

export type Step = {
  readonly id: string
  readonly about: string
  readonly unit: 'requests/s' | 'MB/s' | 'deliveries/s' | 'ms' | 'MB'
  readonly connections: number
  /** Requests of one round: in full, and with --quick. */
  readonly count: readonly [full: number, quick: number]
  readonly goals: readonly Goal[]
  /** Missing: the target does not take part. */
  readonly plan?: (running: Running, count: number, fetchUrl: string) => Promise<Plan> | undefined
  /** Measured in a way of its own, by special.ts. */
  readonly special?: 'webhooks' | 'start' | 'idle'
  /** Programs this step is too slow for: 100 MB in ten seconds and more. */
  readonly without?: readonly string[]
}

export const STEPS: readonly Step[] = [
  {
    id: 'put-50k',
    about: 'PUT 50 KB on 32 connections: signature checked, SHA-256, judged, synced, row written',
    unit: 'requests/s',
    connections: 32,
    count: [4000, 1500],
    goals: [
      { against: 'nginx', atLeast: 0.25 },
      { against: 'each peer', atLeast: 3 },
    ],
    plan: (running, count) => running.uploads?.('small', count),
  },
  {
    id: 'put-100m',
    about: 'PUT 100 MB on one connection: hashed and synced',
    unit: 'MB/s',
    connections: 1,
    count: [10, 4],
    goals: [{ against: 'nginx', atLeast: 0.4 }],
    plan: (running, count) => running.uploads?.('large', count),
    without: ['prosody'],
  },
  {
    id: 'put-100m-x32',
    about: 'PUT 100 MB on 32 connections: hashed and synced; memory above idle',
    unit: 'MB/s',
    connections: 32,
    count: [32, 32],
    goals: [
      { against: 'nginx', atLeast: 0.55 },
      { atMost: 160, of: 'growthMb' },
    ],
    plan: (running, count) => running.uploads?.('large', count),
    without: ['prosody'],
  },
  {
    id: 'get-100m',
    about: 'GET 100 MB on one connection',
    unit: 'MB/s',
    connections: 1,
    count: [40, 16],
    goals: [{ against: 'nginx', atLeast: 0.5 }],
    plan: (running) => running.downloads?.('large'),
    without: ['prosody'],
  },
  {
    id: 'get-100m-x32',
    about: 'GET 100 MB on 32 connections',
    unit: 'MB/s',
    connections: 32,
    count: [96, 64],
    goals: [{ against: 'nginx', atLeast: 0.95 }],
    plan: (running) => running.downloads?.('large'),
    without: ['prosody'],
  },
  {
    id: 'get-50k',
    about: 'GET 50 KB on 32 connections',
    unit: 'requests/s',
    connections: 32,
    count: [30_000, 10_000],
    goals: [
      { against: 'nginx', atLeast: 0.35 },
      { against: 'each peer', atLeast: 5 },
    ],
    plan: (running) => running.downloads?.('small'),
  },
  {
    id: 'range-50k',
    about: 'GET ranges of 50 KB out of 100 MB on 32 connections',
    unit: 'requests/s',
    connections: 32,
    count: [30_000, 10_000],
    goals: [
      { against: 'nginx', atLeast: 0.35 },
      { against: 'each peer', atLeast: 5 },
    ],
    plan: (running) => running.ranges?.(),
  },
  {
    id: 'create',
    about: 'create on 32 connections: checked, stored durably, presigned; the yardstick inserts one synced row',
    unit: 'requests/s',
    connections: 32,
    count: [15_000, 5000],
    goals: [{ against: 'bare node', atLeast: 1.5 }],
    plan: (running, count) => running.creates?.(count),
  },
  {
    id: 'send',
    about: 'send by attachment_id on 32 connections; the yardstick inserts three rows in one synced transaction',
    unit: 'requests/s',
    connections: 32,
    count: [6000, 2000],
    goals: [{ against: 'bare node', atLeast: 1.2 }],
    plan: (running, count) => running.sends?.(count),
  },
  {
    id: 'retrieve',
    about: 'retrieve an attachment on 32 connections; the yardstick answers a constant',
    unit: 'requests/s',
    connections: 32,
    count: [40_000, 15_000],
    goals: [{ against: 'bare node', atLeast: 0.6 }],
    plan: (running) => running.retrieves?.(),
  },
  {
    id: 'webhooks',
    about: 'webhook deliveries to a receiver that answers at once; the yardstick POSTs with undici, 16 at a time',
    unit: 'deliveries/s',
    connections: 16,
    count: [10_000, 3000],
    goals: [{ against: 'bare node', atLeast: 0.5 }],
    special: 'webhooks',
  },
  {
    id: 'direct-url',
    about: 'send by direct URL, 10 MB, 8 at a time; the yardstick downloads with node:https and drops it',
    unit: 'MB/s',
    connections: 8,
    count: [80, 32],
    goals: [{ against: 'bare node', atLeast: 0.8 }],
    plan: (running, count, url) => running.fetches?.(count, url),
  },
  {
    id: 'start',
    about: 'from the command to ready; grown: with a million attachments and a million messages',
    unit: 'ms',
    connections: 0,
    count: [3, 2],
    goals: [{ against: 'satchel', atMost: 2 }],
    special: 'start',
  },
  {
    id: 'idle',
    about: 'resident memory, three seconds after the start',
    unit: 'MB',
    connections: 0,
    count: [1, 1],
    goals: [{ atMost: 130, of: 'value' }],
    special: 'idle',
  },
]

/** Steps whose figures must hold when the database is full: at least this part of the empty one's. */
export const GROWTH_AT_LEAST = 0.85
