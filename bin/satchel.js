#!/usr/bin/env node
// Written for any Node, so that a too old one gets a sentence instead of a stack. In a checkout it runs the source by type
// stripping; the published package has only the build.
import { existsSync } from 'node:fs'
import module from 'node:module'
import { fileURLToPath } from 'node:url'

const version = process.versions.node.split('.').map(Number)
const atLeast = (major, minor) => version[0] > major || (version[0] === major && version[1] >= minor)
const source = new URL('../src/cli.ts', import.meta.url)
const inCheckout = existsSync(source)
const needed = inCheckout ? '22.18' : '22.16'
const strips = atLeast(23, 6) || (version[0] === 22 && version[1] >= 18)

if (inCheckout ? !strips : !atLeast(22, 16)) {
  console.error(
    `Satchel needs Node ${needed} or newer, and this is ${process.versions.node}: run it with npm or update Node.`,
  )
  process.exit(1)
}
// Stripping and compiling the source is most of a start and 15 MB of its memory, so the outcome is kept, where nobody else
// writes. Coverage needs to see the source compiled.
if (inCheckout && !process.env.NODE_V8_COVERAGE) {
  module.enableCompileCache?.(fileURLToPath(new URL('../node_modules/.cache/satchel', import.meta.url)))
}
await import(inCheckout ? source : new URL('../dist/cli.js', import.meta.url))
