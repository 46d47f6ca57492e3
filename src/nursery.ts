/**
 * V8's nursery, where new objects live until they are swept. Left alone it grows to 32 MB, and twice as much of bodies that have
 * passed lies about until the next sweep; kept at its first size it is swept so often that a small request takes a fifth longer.
 * So it does not grow while modules load, and under load to some megabytes and no further.
 */
import { PerformanceObserver } from 'node:perf_hooks'
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'

const ENOUGH_BYTES = 8 * 1024 * 1024

export function keepNurserySmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
}

/** To be called when all that is needed to begin with is loaded. */
export function letNurseryGrow(): void {
  setFlagsFromString('--semi-space-growth-factor=2')
  const observer = new PerformanceObserver(() => {
    const nursery = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')
    if (nursery && nursery.space_size < ENOUGH_BYTES) return
    keepNurserySmall()
    observer.disconnect()
  })
  observer.observe({ entryTypes: ['gc'] })
}
