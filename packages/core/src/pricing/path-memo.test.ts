import fc from 'fast-check'
import { expect, it } from 'vitest'
import { PathMemo } from './path-memo.ts'

it('remembers each path for itself and never more than it may', () => {
  const text = fc.option(fc.constantFrom('', 'a', 'b', 'a\nb'), { nil: undefined })
  const paths = fc.array(fc.tuple(text, text, text), { maxLength: 60 })
  fc.assert(
    fc.property(paths, fc.integer({ min: 1, max: 8 }), (all, sizeMax) => {
      const memo = new PathMemo<{ readonly of: string }>(sizeMax)
      const distinct = new Set<string>()
      let searches = 0
      for (const path of all) {
        const of = JSON.stringify(path.map((part) => part ?? null))
        distinct.add(of)
        const found = memo.get(path, () => {
          searches++
          return { of }
        })
        expect(found.of).toBe(of)
      }
      expect(searches).toBeGreaterThanOrEqual(distinct.size)
      if (distinct.size <= sizeMax) expect(searches).toBe(distinct.size)
    }),
  )
})
