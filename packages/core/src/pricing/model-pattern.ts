import type { ModelMatch } from './model-match.ts'

/**
 * The match of a model pattern in which `*` stands for any text: `gpt-4o*`, `*`. Everything else is literal;
 * without a `*` it is the one name.
 */
export function modelPatternMatch(pattern: string): ModelMatch {
  const [first = '', ...rest] = pattern.split('*')
  const last = rest.pop()
  if (last === undefined) return { equals: pattern }
  if (rest.length === 0 && last === '') return { starts_with: first }
  if (rest.length === 0 && first === '') return { ends_with: last }
  const parts = [first, ...rest, last].map((part) =>
    part.toLowerCase().replaceAll(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'),
  )
  return { regex: `^${parts.join('.*')}$` }
}

/** Whether a model's name is a pattern. */
export function isModelPattern(model: string): boolean {
  return model.includes('*')
}
