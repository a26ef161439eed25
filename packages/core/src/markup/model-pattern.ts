import { comparableModel } from '../pricing/model-match.ts'

/**
 * Patterns of model names: a name, in which `*` stands for any characters, also none. Letters count alike in
 * both cases, as everywhere with models.
 */

/** A pattern in the form in which patterns are compared: lower case, no `*` beside another. */
export function comparablePattern(pattern: string): string {
  return comparableModel(pattern).replace(/\*+/g, '*')
}

/**
 * Whether a model name fits.
 *
 * Without backtracking: each literal part is taken at its first place after the part before, which finds a
 * way whenever there is one, in time proportional to the name.
 *
 * @param pattern from `comparablePattern`
 * @param name from `comparableModel`
 */
export function fitsPattern(pattern: string, name: string): boolean {
  const parts = pattern.split('*')
  const first = parts[0] ?? ''
  if (parts.length === 1) return name === first
  const last = parts.at(-1) ?? ''
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last))
    return false
  let position = first.length
  const end = name.length - last.length
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, position)
    if (found === -1 || found + part.length > end) return false
    position = found + part.length
  }
  return true
}

/**
 * How narrow a pattern is: 0 for none, more for each character that a model must have, and an exact name above
 * all patterns.
 */
export function patternRank(pattern: string | undefined): number {
  if (pattern === undefined) return 0
  return pattern.includes('*') ? 1 + pattern.replaceAll('*', '').length : EXACT_RANK
}

const EXACT_RANK = 1_000_000

/** Whether some name fits both patterns. Each pair of positions is looked at once. */
export function patternsOverlap(a: string, b: string): boolean {
  if (!a.includes('*')) return fitsPattern(b, a)
  if (!b.includes('*')) return fitsPattern(a, b)
  // reachable[j]: some text fits the first i characters of a and the first j of b.
  let reachable = new Array<boolean>(b.length + 1).fill(false)
  reachable[0] = true
  for (let j = 1; j <= b.length && b[j - 1] === '*'; j++) reachable[j] = true
  for (let i = 1; i <= a.length; i++) {
    const isStar = a[i - 1] === '*'
    const next = new Array<boolean>(b.length + 1).fill(false)
    next[0] = isStar && reachable[0] === true
    for (let j = 1; j <= b.length; j++) {
      const star = isStar || b[j - 1] === '*'
      next[j] = star
        ? (isStar && (reachable[j] === true || next[j - 1] === true)) ||
          (b[j - 1] === '*' && (next[j - 1] === true || reachable[j] === true))
        : reachable[j - 1] === true && a[i - 1] === b[j - 1]
    }
    reachable = next
  }
  return reachable[b.length] === true
}
