import { z } from 'zod'

/**
 * A provider's own usage object, kept beside the counts that were read from it: numbers under the provider's
 * names, and nothing else. Text has no place in it, so that no prompt can be in it.
 */
export interface VendorUsage {
  readonly [name: string]: number | VendorUsage
}

/** Numbers of one usage object; the largest that is known has about forty. */
const NUMBERS_MAX = 100
const LEVELS_MAX = 6
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}$/

/** What a sender may give as a provider's usage. Checked by hand: a schema that refers to itself has no bottom. */
export const vendorUsageSchema = z
  .custom<VendorUsage>(isVendorUsage, 'must be objects of numbers: 100 numbers and 6 levels at most')
  .meta({ type: 'object', additionalProperties: true })

/** Whether a value is a usage object within the limits. */
export function isVendorUsage(value: unknown): value is VendorUsage {
  const numbers = numbersIn(value, LEVELS_MAX)
  return numbers !== undefined && numbers <= NUMBERS_MAX
}

/** How many numbers a usage object has; undefined when it is none. */
function numbersIn(usage: unknown, levels: number): number | undefined {
  if (!isObject(usage) || levels === 0) return undefined
  let numbers = 0
  for (const name in usage) {
    if (!NAME.test(name) || name === '__proto__') return undefined
    const entry = usage[name]
    if (typeof entry === 'number') {
      if (!Number.isFinite(entry)) return undefined
      numbers++
      continue
    }
    const inside = numbersIn(entry, levels - 1)
    // Without a number there is nothing inside.
    if (inside === undefined || inside === 0) return undefined
    numbers += inside
  }
  return numbers
}

/**
 * What of a provider's usage object may be kept. Text, truth values and what lies beyond the limits are left
 * out. The entries of an array stand under their modality where they name one, else under their position.
 *
 * @returns undefined when nothing is left
 */
export function vendorUsageOf(usage: unknown): VendorUsage | undefined {
  let numbers = 0
  const numbersOf = (value: unknown, levels: number): VendorUsage | undefined => {
    if (typeof value !== 'object' || value === null || levels === 0) return undefined
    let kept: Record<string, number | VendorUsage> | undefined
    for (const [key, entry] of Object.entries(value)) {
      const name = Array.isArray(value) ? (modalityOf(entry) ?? key) : key
      if (!NAME.test(name) || name === '__proto__' || numbers >= NUMBERS_MAX) continue
      const part = typeof entry === 'number' ? entry : numbersOf(entry, levels - 1)
      if (part === undefined) continue
      if (typeof part === 'number') {
        if (!Number.isFinite(part)) continue
        numbers++
      }
      kept ??= {}
      kept[name] = part
    }
    return kept
  }
  return numbersOf(usage, LEVELS_MAX)
}

function modalityOf(entry: unknown): string | undefined {
  const modality = isObject(entry) ? entry['modality'] : undefined
  return typeof modality === 'string' && /^[A-Z_]{1,32}$/.test(modality) ? modality : undefined
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
