import { catalogueProvider, type Dimensions } from '@tokentally/core'
import type { Decision } from './decision.ts'

/** What a call is, as far as decisions ask. */
export interface CallSubject {
  readonly dimensions: Dimensions
  /** As its event names it. */
  readonly provider: string
  /** As it was asked for. */
  readonly model: string | undefined
}

/** Stands for every value of a dimension. */
const ANY = '*'
const NONE: readonly Decision[] = []

type ReadValue = (call: CallSubject) => string | undefined

const READERS: Readonly<Record<string, ReadValue>> = {
  customer: ({ dimensions }) => dimensions.customer,
  user: ({ dimensions }) => dimensions.user,
  team: ({ dimensions }) => dimensions.team,
  project: ({ dimensions }) => dimensions.project,
  business_unit: ({ dimensions }) => dimensions.businessUnit,
  cost_center: ({ dimensions }) => dimensions.costCenter,
  feature: ({ dimensions }) => dimensions.feature,
  conversation: ({ dimensions }) => dimensions.conversation,
  agent: ({ dimensions }) => dimensions.agent,
  environment: ({ dimensions }) => dimensions.environment,
  provider: ({ provider }) => provider,
  model: ({ model }) => model,
}

/** What reads a dimension of a call; undefined for a dimension that a process knows nothing of. */
function readerOf(dimension: string): ReadValue | undefined {
  if (Object.hasOwn(READERS, dimension)) return READERS[dimension]
  if (!dimension.startsWith('tag.')) return undefined
  const name = dimension.slice('tag.'.length)
  return ({ dimensions: { tags } }) =>
    tags !== undefined && Object.hasOwn(tags, name) ? tags[name] : undefined
}

/** The value of a call in one dimension of a scope. @returns undefined when it has none, or an unknown one is asked */
export function valueIn(dimension: string, call: CallSubject): string | undefined {
  return readerOf(dimension)?.(call)
}

/** Decisions by the values of one dimension. */
interface Index {
  readonly read: ReadValue
  readonly byValue: Map<string, Decision[]>
  readonly ofAny: Decision[]
  /** Providers are known by a name that prices are kept under as well. */
  readonly isProvider: boolean
}

/**
 * A snapshot made for finding the decisions of a call: one look into a map for each dimension that any decision
 * names, however many decisions there are.
 */
export class DecisionTable {
  readonly #everywhere: Decision[] = []
  readonly #indexes = new Map<string, Index>()
  /** Whether no call can be concerned. */
  readonly isEmpty: boolean
  /** Whether the model matters: it stands in the body, which is read for it. */
  readonly looksAtModel: boolean

  constructor(decisions: readonly Decision[]) {
    let looksAtModel = false
    for (const decision of decisions) {
      const dimensions = Object.keys(decision.scope)
      // Another dimension than those known here is none of this process's; the service knows what it means.
      if (!dimensions.every((dimension) => readerOf(dimension) !== undefined)) continue
      looksAtModel ||= decision.action === 'downgrade' || dimensions.includes('model')
      const [first] = dimensions
      if (first === undefined) this.#everywhere.push(decision)
      else this.#add(first, decision)
    }
    this.looksAtModel = looksAtModel
    this.isEmpty = this.#everywhere.length === 0 && this.#indexes.size === 0
  }

  #add(dimension: string, decision: Decision): void {
    let index = this.#indexes.get(dimension)
    if (index === undefined) {
      const read = readerOf(dimension) ?? (() => undefined)
      index = { read, byValue: new Map(), ofAny: [], isProvider: dimension === 'provider' }
      this.#indexes.set(dimension, index)
    }
    const value = decision.scope[dimension]
    if (value === undefined) return
    if (value === ANY) {
      index.ofAny.push(decision)
      return
    }
    const same = index.byValue.get(value)
    if (same === undefined) index.byValue.set(value, [decision])
    else same.push(decision)
  }

  /** The decisions that hold for a call at this moment, in no particular order. */
  matching(call: CallSubject, nowMs: number): readonly Decision[] {
    let found: Decision[] | undefined
    const take = (decisions: readonly Decision[]) => {
      for (const decision of decisions) {
        if (decision.untilMs !== null && decision.untilMs <= nowMs) continue
        if (!isInScope(decision, call)) continue
        found ??= []
        found.push(decision)
      }
    }
    take(this.#everywhere)
    for (const { read, byValue, ofAny, isProvider } of this.#indexes.values()) {
      const value = read(call)
      if (value === undefined) continue
      take(ofAny)
      take(byValue.get(value) ?? NONE)
      if (!isProvider) continue
      const catalogued = catalogueProvider(value)
      if (catalogued !== value) take(byValue.get(catalogued) ?? NONE)
    }
    return found ?? NONE
  }
}

/** What is left to look at: the first dimension is matched by the index. */
function isInScope({ scope }: Decision, call: CallSubject): boolean {
  let isFirst = true
  for (const dimension in scope) {
    if (isFirst) {
      isFirst = false
      continue
    }
    const wanted = scope[dimension]
    const value = valueIn(dimension, call)
    if (value === undefined) return false
    if (wanted === ANY || wanted === value) continue
    if (dimension !== 'provider' || wanted !== catalogueProvider(value)) return false
  }
  return true
}
