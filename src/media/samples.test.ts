/**
 * Whole files of every format: the hand-made ones of this repository, and a larger collection of real ones when it lies beside
 * the repository, with its own list of what each must be.
 */

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { acceptedFiles, refusedFiles } from '../../test/fixtures/media/files.ts'
import { inMemory } from '../../test/fixtures/media/memory.ts'
import { check } from '../cli/check.ts'
import { detect } from './detect.ts'
import { judgeUpload, judgeUrl } from './judge.ts'
import { findTypeByExtension } from './types.ts'

for (const [filename, content] of Object.entries(acceptedFiles())) {
  test(`${filename} is recognised from its content alone`, async () => {
    const detection = await detect(inMemory(content))
    assert.deepEqual(detection, { type: findTypeByExtension(filename) })
    const declared = findTypeByExtension(filename)?.contentType
    assert.equal(judgeUpload(detection, { filename, declared }).accepted, true)
    assert.equal(judgeUrl(detection, { filename }).accepted, true)
  })
}

for (const [filename, [content, format]] of Object.entries(refusedFiles())) {
  test(`${filename} is refused whatever it is called`, async () => {
    for (const hint of [{}, { filename: 'photo.png', declared: 'image/png' }, { filename: 'a.docx' }]) {
      const detection = await detect(inMemory(content), hint)
      assert.ok('refused' in detection)
      assert.equal(detection.format, format)
      assert.equal(judgeUpload(detection, hint).accepted, false)
      assert.equal(judgeUrl(detection, hint).accepted, false)
    }
  })
}

const samples = fileURLToPath(new URL('../../../shared/samples/', import.meta.url))
const collected = existsSync(`${samples}MANIFEST.csv`)
  ? readFileSync(`${samples}MANIFEST.csv`, 'utf8').trim().split('\n').slice(1)
  : []

for (const line of collected) {
  const [path = '', verdict = '', contentType = ''] = line.split(',')
  test(`${path} of the collection is ${verdict === 'accept' ? contentType : 'refused'}`, async () => {
    const detection = await detect(inMemory(readFileSync(samples + path)))
    const isAccepted = 'type' in detection
    assert.equal(isAccepted, verdict === 'accept')
    if (isAccepted) assert.equal(detection.type.contentType, contentType)
    const silent = { stdout: () => {}, stderr: () => {} }
    assert.equal(await check([samples + path], silent), isAccepted ? 0 : 1)
  })
}
