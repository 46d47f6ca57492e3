/** The steps that are not a plan of requests: deliveries of webhooks, time to ready, memory at rest. */
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { oweDeliveries } from './grow.ts'
import { Program, residentMb } from './process.ts'
import type { Step } from './steps.ts'
import type { Tools } from './target.ts'
import { startSatchel } from './targets/satchel.ts'

const POSTER = fileURLToPath(new URL('targets/bare-poster.ts', import.meta.url))
const IDLE_MS = 3_000

export type Special = Tools & { receiverPort: number }

/** undefined: this target has no such thing. `folder` is its data folder, and it is not running. */
export async function measureSpecial(
  step: Step,
  target: string,
  folder: string,
  count: number,
  tools: Special,
): Promise<number | undefined> {
  const ours = target === 'satchel' || target === 'satchel-1m'
  if (step.special === 'webhooks' && target === 'bare node') return await postBare(count, step.connections, tools)
  if (!ours) return undefined
  if (step.special === 'webhooks') return await deliver(folder, count, tools)
  const running = await startSatchel(folder, tools, {})
  try {
    if (step.special === 'start') return running.readyMs
    await sleep(IDLE_MS)
    return residentMb(running.pid)
  } finally {
    await running.stop()
  }
}

async function postBare(count: number, width: number, { load, receiverPort }: Special): Promise<number> {
  const { counted } = await load.receive(receiverPort, count)
  const program = new Program(process.execPath, [POSTER, String(receiverPort), String(count), String(width)])
  const { requests, seconds } = await counted
  await program.stop()
  return requests / seconds
}

async function deliver(folder: string, count: number, tools: Special): Promise<number> {
  const first = await startSatchel(folder, tools, {})
  const url = `http://127.0.0.1:${tools.receiverPort}/hook?version=2026-02-03`
  const wanted = { target_url: url, subscribed_events: ['message.delivered'] }
  const { id } = (await first.call('/webhook-subscriptions', wanted)) as { id: string }
  await first.stop()
  oweDeliveries(folder, count)
  const { counted } = await tools.load.receive(tools.receiverPort, count)
  const running = await startSatchel(folder, tools, {})
  try {
    const { requests, seconds } = await counted
    if (requests < count) throw new Error(`only ${requests} of ${count} deliveries came`)
    // Later steps must not owe this receiver anything.
    await running.call(`/webhook-subscriptions/${id}`, undefined, 'DELETE')
    return requests / seconds
  } finally {
    await running.stop()
  }
}
