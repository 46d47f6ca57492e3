/** Measured programs: started, watched through /proc (CPU seconds, resident memory, descriptors, with children), ended. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const START_LIMIT_MS = 60_000
const STOP_LIMIT_MS = 15_000

export class Program {
  readonly child: ChildProcess
  stdout = ''
  stderr = ''

  constructor(command: string, args: string[], o: { cwd?: string; env?: Record<string, string> } = {}) {
    const kept = Object.entries(process.env).filter(([name]) => !/^(SATCHEL|LINQ)_|^npm_|^NODE_OPTIONS/.test(name))
    const env = { ...Object.fromEntries(kept), ...o.env }
    this.child = spawn(command, args, { ...(o.cwd ? { cwd: o.cwd } : {}), env, stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stdout?.on('data', (chunk) => {
      this.stdout = `${this.stdout}${chunk}`.slice(-1e6)
    })
    this.child.stderr?.on('data', (chunk) => {
      this.stderr = `${this.stderr}${chunk}`.slice(-1e5)
    })
    this.child.once('error', (error) => {
      this.stderr += error.message
    })
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  /** Resolves as soon as `ready` is true of what the program has said or done. */
  async waitFor(ready: () => boolean | Promise<boolean>): Promise<void> {
    for (const until = Date.now() + START_LIMIT_MS; ; await sleep(10)) {
      if (await ready()) return
      if (this.child.exitCode !== null)
        throw new Error(`it ended with ${this.child.exitCode}: ${this.stderr.slice(-2000)}`)
      if (Date.now() > until) throw new Error(`it did not start: ${this.stderr.slice(-2000)}`)
    }
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const exited = once(this.child, 'exit')
    this.child.kill('SIGTERM')
    const timer = setTimeout(() => this.child.kill('SIGKILL'), STOP_LIMIT_MS)
    await exited
    clearTimeout(timer)
  }
}

export async function isListening(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

/** The process and all that descend from it. */
function family(pid: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const fields = statFields(Number(name))
    if (fields) parents.set(Number(name), Number(fields[1]))
  }
  const members = [pid]
  for (const member of members) for (const [child, parent] of parents) if (parent === member) members.push(child)
  return members
}

/** What follows the name in /proc/PID/stat: state, parent, … */
function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

const TICKS = 100

/** User and system seconds so far. */
export function cpuSeconds(pid: number): number {
  return family(pid).reduce((sum, member) => {
    const fields = statFields(member) ?? []
    return sum + (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / TICKS
  }, 0)
}

/** Resident memory in MB: shared pages of several processes count for each. */
export function residentMb(pid: number): number {
  return family(pid).reduce((sum, member) => {
    try {
      return sum + Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${member}/status`, 'latin1'))?.[1] ?? 0) / 1024
    } catch {
      return sum
    }
  }, 0)
}

export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

/** Samples memory until it is stopped, and then tells the highest. */
export function watchMemory(pid: number): () => number {
  let peak = residentMb(pid)
  const timer = setInterval(() => {
    peak = Math.max(peak, residentMb(pid))
  }, 50)
  return () => {
    clearInterval(timer)
    return Math.max(peak, residentMb(pid))
  }
}
