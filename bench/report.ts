/** From figures to medians, ratios and verdicts, as data and as a table. */
import { type Goal, GROWTH_AT_LEAST, type Step } from './steps.ts'
import type { Target } from './target.ts'

/** `value` in the step's unit; the rest where it was measured. Latencies in ms. */
export type Measured = {
  step: string
  target: string
  round: number
  value: number
  failed: number
  p50?: number
  p99?: number
  cpuSeconds?: number
  loadCpuSeconds?: number
  seconds?: number
  growthMb?: number
}

export type Verdict = { step: string; goal: string; reached: number; wanted: number; holds: boolean }

export type Results = {
  at: string
  minutes: number
  machine: string
  quick: boolean
  rounds: number
  targets: { name: string; about: string }[]
  leftOut: { name: string; why: string }[]
  measured: Measured[]
  verdicts: Verdict[]
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const [low, high] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]]
  return low === undefined || high === undefined ? Number.NaN : (low + high) / 2
}

export function medianOf(
  measured: readonly Measured[],
  step: string,
  target: string,
  field: 'value' | 'growthMb' = 'value',
): number | undefined {
  const values = measured.flatMap((one) =>
    one.step === step && one.target === target && one[field] !== undefined ? [one[field]] : [],
  )
  return values.length > 0 ? median(values) : undefined
}

/** The median of the ratios of each round, so that a slow minute of the machine counts on both sides. */
function ratio(measured: readonly Measured[], step: string, ours: string, theirs: string): number | undefined {
  const of = (target: string) =>
    measured.filter((one) => one.step === step && one.target === target && one.failed === 0)
  const ratios = of(ours).flatMap(({ round, value }) => {
    const other = of(theirs).find((one) => one.round === round)
    return other ? [value / other.value] : []
  })
  return ratios.length > 0 ? median(ratios) : undefined
}

export function judge(steps: readonly Step[], targets: readonly Target[], measured: readonly Measured[]): Verdict[] {
  const verdicts: Verdict[] = []
  const has = (name: string) => targets.some((target) => target.name === name)
  const add = (step: string, goal: string, reached: number | undefined, wanted: number, atLeast: boolean) => {
    if (reached === undefined) return
    verdicts.push({ step, goal, reached, wanted, holds: atLeast ? reached >= wanted : reached <= wanted })
  }
  const ours = targets.filter(({ kind, name }) => kind === 'ours' && name !== 'satchel-1m')
  for (const step of steps) {
    for (const { name } of ours) {
      for (const goal of step.goals) {
        for (const one of spell(goal, targets)) {
          if ('of' in one)
            add(step.id, `${name}: ${one.text}`, medianOf(measured, step.id, name, one.of), one.atMost, false)
          else if ('atMost' in one) {
            // Of one pair of targets, whichever of ours is looked at.
            if (name === 'satchel')
              add(step.id, one.text, ratio(measured, step.id, 'satchel-1m', 'satchel'), one.atMost, false)
          } else
            add(step.id, `${name} / ${one.against}`, ratio(measured, step.id, name, one.against), one.atLeast, true)
        }
      }
    }
    if (has('satchel-1m') && step.special !== 'start' && step.special !== 'idle') {
      const reached = ratio(measured, step.id, 'satchel-1m', 'satchel')
      add(step.id, 'satchel-1m / satchel', reached, GROWTH_AT_LEAST, true)
    }
  }
  return verdicts
}

type Spelled =
  | { text: string; of: 'growthMb' | 'value'; atMost: number }
  | { text: string; atMost: number }
  | { against: string; atLeast: number }

function spell(goal: Goal, targets: readonly Target[]): Spelled[] {
  if ('of' in goal) {
    return [{ text: goal.of === 'growthMb' ? 'peak memory above idle, MB' : 'MB', of: goal.of, atMost: goal.atMost }]
  }
  if ('atMost' in goal) return [{ text: 'satchel-1m / satchel', atMost: goal.atMost }]
  if (goal.against !== 'each peer') return [{ against: goal.against, atLeast: goal.atLeast }]
  return targets.filter(({ kind }) => kind === 'peer').map(({ name }) => ({ against: name, atLeast: goal.atLeast }))
}

export function toMarkdown(results: Results): string {
  const { measured, verdicts, targets } = results
  const steps = [...new Set(measured.map(({ step }) => step))]
  const names = targets.map(({ name }) => name).filter((name) => measured.some(({ target }) => target === name))
  const figure = (value: number | undefined) =>
    value === undefined ? '–' : value >= 100 ? value.toFixed(0) : value.toPrecision(2)
  const lines = [
    `${results.machine}; ${results.rounds} rounds, ${results.minutes} minutes${results.quick ? ', quick' : ''}. Medians.`,
    '',
    `| | ${names.join(' | ')} |`,
    `|---|${names.map(() => '--:').join('|')}|`,
    ...steps.map((step) => `| ${step} | ${names.map((name) => figure(medianOf(measured, step, name))).join(' | ')} |`),
    '',
    '| step | ratio or figure | reached | goal | |',
    '|---|---|--:|--:|---|',
    ...verdicts.map(
      ({ step, goal, reached, wanted, holds }) =>
        `| ${step} | ${goal} | ${reached >= 100 ? reached.toFixed(0) : reached.toFixed(2)} | ${wanted} | ${holds ? 'yes' : '**no**'} |`,
    ),
    '',
  ]
  return `${lines.join('\n')}\n`
}
