/**
 * Hands out a whole by weight, so that the parts add up to it by construction.
 *
 * Each part is the whole times its share of the weights, rounded down; what rounding left over goes, one unit
 * each, to the parts that lost most of a unit, the earlier one first where they lost the same (the method of
 * the largest remainder). No part is further than one unit from its exact share.
 *
 * @param whole what is handed out, in the smallest unit that is counted; not negative
 * @param weights not negative, at least one above zero unless the whole is zero
 * @throws RangeError when a number is negative, or when there is a whole and nobody to hand it to
 */
export function handOut(whole: bigint, weights: readonly bigint[]): readonly bigint[] {
  if (whole < 0n) throw new RangeError(`the whole must not be negative, got ${whole}`)
  const negative = weights.find((weight) => weight < 0n)
  if (negative !== undefined) throw new RangeError(`a weight must not be negative, got ${negative}`)
  if (whole === 0n) return weights.map(() => 0n)
  const total = weights.reduce((sum, weight) => sum + weight, 0n)
  if (total === 0n) throw new RangeError(`nobody has a weight to hand ${whole} out by`)

  const parts = weights.map((weight) => (whole * weight) / total)
  const left = Number(whole - parts.reduce((sum, part) => sum + part, 0n))
  const byLoss = weights
    .map((weight, index) => ({ index, loss: (whole * weight) % total }))
    .sort((a, b) => (a.loss === b.loss ? a.index - b.index : a.loss > b.loss ? -1 : 1))
  for (const { index } of byLoss.slice(0, left)) parts[index] = (parts[index] ?? 0n) + 1n
  return parts
}
