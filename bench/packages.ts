/** Servers that come from npm, each at one version, installed into bench/.cache and nowhere else. */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const CACHE = fileURLToPath(new URL('.cache', import.meta.url))

/** The folder that has them, or why they cannot be had. */
export async function installPackages(
  name: string,
  dependencies: Record<string, string>,
): Promise<{ folder: string } | { missing: string }> {
  const folder = join(CACHE, name)
  const done = join(folder, 'installed')
  if (existsSync(done)) return { folder }
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module', dependencies }))
  try {
    await promisify(execFile)('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts'], { cwd: folder })
  } catch (error) {
    return { missing: `npm could not install ${name}: ${String(error).split('\n')[1] ?? 'no reason given'}` }
  }
  writeFileSync(done, '')
  return { folder }
}
