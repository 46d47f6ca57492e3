/** The storage suite against both S3 servers, plain and below a prefix. */

import { ACCESS_KEY_ID, S3_KINDS, SECRET_ACCESS_KEY, startS3 } from '../../test/support/s3.ts'
import { storageConformance } from './conformance.ts'
import { openS3 } from './s3.ts'
import { parseS3Location } from './s3-location.ts'

const credentials = { accessKeyId: ACCESS_KEY_ID, secretAccessKey: SECRET_ACCESS_KEY }

for (const kind of S3_KINDS)
  for (const prefix of ['', 'shared/With.Dots'])
    storageConformance(`S3 of ${kind}, prefix "${prefix}"`, async () => {
      const server = await startS3(kind)
      const s3 = openS3(parseS3Location(server.url({ prefix })), credentials)
      await s3.check()
      return {
        storage: s3.storage,
        async close() {
          s3.close()
          await server[Symbol.asyncDispose]()
        },
      }
    })
