/** Names for stored objects: a new one for every attempt, so that no key is ever written twice. */
import type { NewId } from '../ids.ts'

/** 256 folders by two random digits, since folders of a million files and one busy folder are both slow. */
export function newStorageKey(newId: NewId): string {
  const id = newId()
  return `media/${id.slice(-2)}/${id}`
}
