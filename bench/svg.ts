/** The plot: one bar a goal, its length the part of the goal that was reached, on a scale where 1 is the goal. */
import type { Results } from './report.ts'

const ROW = 22
const LEFT = 330
const UNIT = 220
const MOST = 2

export function toSvg({ verdicts, at, machine, rounds, quick }: Results): string {
  const height = 60 + verdicts.length * ROW
  const width = LEFT + UNIT * MOST + 90
  const bars = verdicts.map(({ step, goal, reached, wanted, holds }, index) => {
    const isLimit = reached <= wanted === holds && !(reached >= wanted && holds)
    const part = isLimit || goal.includes('MB') || step === 'start' ? wanted / reached : reached / wanted
    const y = 50 + index * ROW
    const length = Math.max(1, Math.min(part, MOST) * UNIT)
    return `<text x="${LEFT - 8}" y="${y + 12}" text-anchor="end">${xml(`${step}: ${goal}`)}</text>
<rect x="${LEFT}" y="${y}" width="${length.toFixed(1)}" height="${ROW - 7}" fill="${holds ? '#2a9d5c' : '#d1603d'}"/>
<text x="${(LEFT + length + 6).toFixed(1)}" y="${y + 12}">${reached >= 100 ? reached.toFixed(0) : reached.toFixed(2)} (goal ${wanted})</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="8" y="18" font-size="14">Satchel against its goals; the line is the goal</text>
<text x="8" y="36" fill="#666">${xml(`${at.slice(0, 10)}, ${machine}, medians of ${rounds} rounds${quick ? ' (quick)' : ''}`)}</text>
${bars.join('\n')}
<line x1="${LEFT + UNIT}" y1="44" x2="${LEFT + UNIT}" y2="${height - 8}" stroke="#333" stroke-dasharray="4 3"/>
</svg>
`
}

const xml = (text: string) => text.replace(/[&<>]/g, (char) => `&#${char.charCodeAt(0)};`)
