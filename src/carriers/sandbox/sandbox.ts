/** What the sandbox adds to the program; absent where real transports carry the messages. */

import type { MovableClock } from './clock.ts'
import type { Faults } from './faults.ts'

export type Sandbox = { readonly clock: MovableClock; readonly faults: Faults }
