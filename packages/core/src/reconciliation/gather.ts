import { type Decimal, decimal, ZERO } from '../money/decimal.ts'
import { divideToSignificant } from '../money/divide.ts'
import { scaleOf } from '../money/scaled.ts'
import { METERS } from '../usage/meters.ts'
import type { Cell } from './cell.ts'
import { modelWords } from './model-words.ts'
import { VENDOR_SOURCES, type Vendor, type VendorRow, type VendorSourceName } from './vendor-source.ts'

/** A row of a vendor with where it comes from. */
export interface VendorFigure extends VendorRow {
  readonly source: VendorSourceName
  /** When the vendor was asked or the file sent; figures of the days before may still have grown. */
  readonly importedAtMs: number
}

/** What the ledger has of a vendor's calls in an hour, by model, meter and tier. Meters are disjoint. */
export interface LedgerHour {
  /** The hour's beginning, UTC milliseconds. */
  readonly hourMs: number
  readonly model: string
  readonly meter: string
  /** In our words (`canonicalTier`). */
  readonly serviceTier: string
  /** Exact decimal text. */
  readonly quantity: string
  /** List cost in US dollars, exact decimal text. */
  readonly costUsd: string
  /** The part of the quantity that has no price here. */
  readonly unpricedQuantity: string
  /** The part of the quantity from calls that were aborted or whose counts are estimates. */
  readonly unsureQuantity: string
}

/** Both sides of one day, model and meter. */
export interface UsageVendorCell {
  readonly day: string
  readonly modelKey: string
  readonly meter: string
  /** Undefined: the vendor gives no quantities for the day. */
  vendorQuantity: Decimal | undefined
  /** Undefined: the vendor gives no costs for the day. */
  vendorCostUsd: Decimal | undefined
  ledgerQuantity: Decimal
  ledgerCostUsd: Decimal
  ledgerUnpriced: Decimal
  ledgerUnsure: Decimal
  readonly vendorByTier: Map<string, Decimal>
  readonly ledgerByTier: Map<string, Decimal>
  /** By key or, where the vendor names none, project. */
  readonly vendorByKey: Map<string, Decimal>
  vendorLines: number
  /** Digits after the point of the vendor's costs. */
  vendorCostScale: number
  importedAtMs: number
  /** Average price of a unit; undefined where it cannot be said. */
  vendorUnitUsd: Decimal | undefined
  ledgerUnitUsd: Decimal | undefined
}

export interface GatherInput {
  readonly vendor: Vendor
  /** The days that are asked for, in order. */
  readonly days: readonly string[]
  /** The days that each source has told of. */
  readonly coveredDays: ReadonlyMap<VendorSourceName, ReadonlySet<string>>
  readonly figures: readonly VendorFigure[]
  /** From a day before the first day to a day after the last, for the shift of days. */
  readonly ledger: readonly LedgerHour[]
}

export interface Gathered {
  readonly cells: readonly Cell[]
  /** The days that a source has told of, in order. */
  readonly days: readonly string[]
  /** What is no usage: credits, taxes. */
  readonly charges: readonly VendorFigure[]
  /** Names of models as they are shown, by key. */
  readonly modelNames: ReadonlyMap<string, string>
  /** Keys of the models that the ledger has calls of. */
  readonly meteredModels: ReadonlySet<string>
  /** The ledger's hours by model and meter (`seriesOf`). */
  readonly hours: ReadonlyMap<string, readonly LedgerHour[]>
}

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** Prices of a unit carry as many digits as any difference of them could need. */
const PRICE_DIGITS = 30

/** Puts both sides beside each other, by day, model and meter. */
export function gather(input: GatherInput): Gathered {
  const sources = [...input.coveredDays]
    .map(([name, days]) => ({ name, days, ...VENDOR_SOURCES[name] }))
    .filter((source) => source.vendor === input.vendor)
    .toSorted((a, b) => a.quantityRank - b.quantityRank)
  const days = input.days.filter((day) => sources.some((source) => source.days.has(day)))
  const quantitySource = new Map(
    days.map((day) => [day, sources.find((source) => source.days.has(day))?.name] as const),
  )
  const hasCosts = new Set(
    days.filter((day) => sources.some((source) => source.hasCosts && source.days.has(day))),
  )
  const meters = new Set(sources.flatMap((source) => [...source.meters]))
  const isTold = new Set(
    input.figures.flatMap(({ kind, meter }) => (kind === 'usage' && meter ? [meter] : [])),
  )

  const cells = new Map<string, Cell>()
  const modelNames = new Map<string, string>()
  const cellOf = (day: string, modelKey: string, meter: string): Cell => {
    const key = JSON.stringify([day, modelKey, meter])
    const found = cells.get(key)
    if (found !== undefined) return found
    const cell = emptyCell(day, modelKey, meter)
    // A day that the vendor has told of and a meter that it did not name: none.
    cell.vendorQuantity = ZERO
    if (hasCosts.has(day)) cell.vendorCostUsd = ZERO
    cells.set(key, cell)
    return cell
  }

  const charges: VendorFigure[] = []
  const withoutQuantity = new Set<Cell>()
  for (const figure of input.figures) {
    const { day, kind, model, meter, source } = figure
    if (!quantitySource.has(day)) continue
    if (kind !== 'usage' || model === null || meter === null) {
      charges.push(figure)
      continue
    }
    const modelKey = modelWords(model)
    if (!modelNames.has(modelKey)) modelNames.set(modelKey, model)
    const cell = cellOf(day, modelKey, meter)
    addCost(cell, figure)
    if (quantitySource.get(day) !== source) continue
    if (figure.quantity === null) withoutQuantity.add(cell)
    else addQuantity(cell, figure, decimal(figure.quantity))
  }
  for (const cell of withoutQuantity) cell.vendorQuantity = undefined

  const hours = new Map<string, LedgerHour[]>()
  const meteredModels = new Set<string>()
  const isCovered = new Set(days)
  for (const hour of input.ledger) {
    const meter = toldMeter(hour.meter, meters)
    if (!meters.has(meter) && !isTold.has(meter)) continue
    const modelKey = modelWords(hour.model)
    const quantity = decimal(hour.quantity)
    modelNames.set(modelKey, hour.model)
    meteredModels.add(modelKey)
    const series = seriesOf({ modelKey, meter })
    const ofSeries = hours.get(series) ?? []
    ofSeries.push(hour)
    hours.set(series, ofSeries)
    const day = dayOfMs(hour.hourMs)
    if (isCovered.has(day)) addHour(cellOf(day, modelKey, meter), hour, quantity)
  }
  for (const cell of cells.values()) {
    cell.vendorUnitUsd = unitPrice(cell.vendorCostUsd, cell.vendorQuantity)
    cell.ledgerUnitUsd = unitPrice(cell.ledgerCostUsd, cell.ledgerQuantity.minus(cell.ledgerUnpriced))
    cell.restQuantity = (cell.vendorQuantity ?? cell.ledgerQuantity).minus(cell.ledgerQuantity)
  }
  return { cells: [...cells.values()], days, charges, modelNames, meteredModels, hours }
}

function emptyCell(day: string, modelKey: string, meter: string): Cell {
  return {
    day,
    modelKey,
    meter,
    vendorQuantity: undefined,
    vendorCostUsd: undefined,
    ledgerQuantity: ZERO,
    ledgerCostUsd: ZERO,
    ledgerUnpriced: ZERO,
    ledgerUnsure: ZERO,
    vendorByTier: new Map(),
    ledgerByTier: new Map(),
    vendorByKey: new Map(),
    vendorLines: 0,
    vendorCostScale: 0,
    importedAtMs: 0,
    vendorUnitUsd: undefined,
    ledgerUnitUsd: undefined,
    restQuantity: ZERO,
    causes: [],
  }
}

function addCost(cell: Cell, figure: VendorFigure): void {
  cell.vendorLines += figure.lines
  cell.importedAtMs = Math.max(cell.importedAtMs, figure.importedAtMs)
  if (figure.costUsd === null) return
  const cost = decimal(figure.costUsd)
  cell.vendorCostUsd = (cell.vendorCostUsd ?? ZERO).plus(cost)
  cell.vendorCostScale = Math.max(cell.vendorCostScale, scaleOf(cost))
}

function addQuantity(cell: Cell, figure: VendorFigure, quantity: Decimal): void {
  cell.vendorQuantity = (cell.vendorQuantity ?? ZERO).plus(quantity)
  if (figure.serviceTier !== null) add(cell.vendorByTier, figure.serviceTier, quantity)
  const key = figure.keyId ?? figure.projectId
  if (key !== null) add(cell.vendorByKey, key, quantity)
}

function addHour(cell: Cell, hour: LedgerHour, quantity: Decimal): void {
  cell.ledgerQuantity = cell.ledgerQuantity.plus(quantity)
  cell.ledgerCostUsd = cell.ledgerCostUsd.plus(decimal(hour.costUsd))
  cell.ledgerUnpriced = cell.ledgerUnpriced.plus(decimal(hour.unpricedQuantity))
  cell.ledgerUnsure = cell.ledgerUnsure.plus(decimal(hour.unsureQuantity))
  add(cell.ledgerByTier, hour.serviceTier, quantity)
}

function add(sums: Map<string, Decimal>, key: string, value: Decimal): void {
  sums.set(key, (sums.get(key) ?? ZERO).plus(value))
}

/** The meter that a source counts what we count in this one under. */
function toldMeter(meter: string, meters: ReadonlySet<string>): string {
  let told = meter
  for (;;) {
    const whole = METERS[told]?.partOf
    if (meters.has(told) || whole === undefined) return told
    told = whole
  }
}

/** Average price of a unit; undefined where there is none. */
export function unitPrice(cost: Decimal | undefined, quantity: Decimal | undefined): Decimal | undefined {
  if (cost === undefined || quantity === undefined || cost.lte(ZERO) || quantity.lte(ZERO)) return undefined
  return divideToSignificant(cost, quantity, PRICE_DIGITS)
}

/** Names a model's meter over all days. */
export function seriesOf({ modelKey, meter }: Pick<UsageVendorCell, 'modelKey' | 'meter'>): string {
  return JSON.stringify([modelKey, meter])
}

/** The UTC day of an instant. */
export function dayOfMs(ms: number): string {
  return new Date(Math.floor(ms / DAY_MS) * DAY_MS).toISOString().slice(0, 10)
}
