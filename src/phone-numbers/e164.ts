/** How phone numbers are written everywhere: a plus, the country, the rest, at most 15 digits. */

/** Contract code 1002. */
export const E164 = /^\+[1-9][0-9]{1,14}$/
