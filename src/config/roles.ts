/** What a node does: the JSON API, uploads and the CDN, jobs and webhooks. */
export const ROLES = ['api', 'edge', 'worker'] as const
export type Role = (typeof ROLES)[number]
