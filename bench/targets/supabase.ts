/** Supabase Storage is published as a container image and as source, not in the registries that the others come from. */
import type { Target } from '../target.ts'

export const supabase: Target = {
  name: 'supabase',
  kind: 'peer',
  about: 'Supabase Storage with its file backend',
  missing: async () => 'Supabase Storage is in no package registry; its image needs containers',
  start: () => Promise.reject(new Error('see missing')),
}
