import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fuzz } from '../../scripts/fuzz.ts'

test('damaged and hostile files neither throw nor hang nor cost much', async () => {
  const report = await fuzz({ seed: 20_260_101, count: 4000 })
  assert.deepEqual(
    report.violations.map(({ seed, what }) => `--seed ${seed}: ${what}`),
    [],
  )
  assert.ok(report.inputs > 4000)
})
