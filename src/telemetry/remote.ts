/** Outgoing calls as spans: the host that was called and what it answered. */
import type { Remote } from '../remote/request.ts'
import type { Tracer } from './tracer.ts'

export function traceRemote(remote: Remote, tracer: Tracer): Remote {
  const about = (name: string, url: string) => ({
    name,
    kind: 'client' as const,
    attributes: { 'server.address': URL.parse(url)?.hostname ?? '' },
  })
  return {
    download: (url, options) => tracer.trace(about('GET media', url), () => remote.download(url, options)),
    post: (url, options) =>
      tracer.trace(about('POST', url), async (span) => {
        const result = await remote.post(url, options)
        span.set({ 'http.response.status_code': result.status })
        return result
      }),
    [Symbol.asyncDispose]: () => remote[Symbol.asyncDispose](),
  }
}
