/** Files made on the spot, so that the demonstration needs none: a picture, a sound, and a WebP that calls itself a PNG. */
import { randomFillSync } from 'node:crypto'
import { crc32, deflateSync } from 'node:zlib'

/** A PNG of a sky with film grain; the grain keeps it from shrinking, so it is about 3 bytes a pixel. */
export function picture(width: number, height: number): Buffer {
  const rows = randomFillSync(Buffer.alloc(height * (1 + width * 3)))
  for (let y = 0; y < height; y++) {
    const row = y * (1 + width * 3)
    rows[row] = 0
    for (let x = 0; x < width; x++) {
      const at = row + 1 + x * 3
      rows[at] = 90 + Math.floor((90 * y) / height) + ((rows[at] ?? 0) & 31)
      rows[at + 1] = 120 + Math.floor((60 * y) / height) + ((rows[at + 1] ?? 0) & 31)
      rows[at + 2] = 200 + ((rows[at + 2] ?? 0) & 31)
    }
  }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 2, 0, 0, 0], 8)
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(data.length)
  const check = Buffer.alloc(4)
  check.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, check])
}

/** A WAV of a tone: mono, 16 bit, 8 kHz. */
export function tone(seconds: number): Buffer {
  const rate = 8000
  const samples = Buffer.alloc(rate * seconds * 2)
  for (let i = 0; i < rate * seconds; i++)
    samples.writeInt16LE(Math.round(9000 * Math.sin((i * 2 * Math.PI * 440) / rate)), i * 2)
  const header = Buffer.alloc(44)
  header.write('RIFF', 0)
  header.writeUInt32LE(36 + samples.length, 4)
  header.write('WAVEfmt ', 8)
  header.writeUInt32LE(16, 16)
  header.writeUInt16LE(1, 20)
  header.writeUInt16LE(1, 22)
  header.writeUInt32LE(rate, 24)
  header.writeUInt32LE(rate * 2, 28)
  header.writeUInt16LE(2, 32)
  header.writeUInt16LE(16, 34)
  header.write('data', 36)
  header.writeUInt32LE(samples.length, 40)
  return Buffer.concat([header, samples])
}

/** The first bytes of a WebP, padded: enough for anyone who looks. */
export function webp(): Buffer {
  const file = Buffer.alloc(256)
  file.write('RIFF', 0)
  file.writeUInt32LE(248, 4)
  file.write('WEBPVP8 ', 8)
  return file
}
