export { adviseOnCalls } from './advice/advise-on-calls.ts'
export {
  ADVICE_SCOPES,
  type AdviceScope,
  type CallGroup,
  SMALL_INPUT_TOKENS,
  SMALL_OUTPUT_TOKENS,
} from './advice/call-group.ts'
export { hostsOfModels } from './advice/cheaper-provider.ts'
export {
  type CommitmentOffer,
  commitmentOfferSchema,
  type OwnedCommitment,
  ownedCommitmentSchema,
  type ProvisionedOffer,
  type SpendOffer,
} from './advice/commitment-offers.ts'
export { breakEvenSpend, cheapestTier, costUnderCommitment } from './advice/committed-spend.ts'
export {
  ADVICE_KINDS,
  type AdviceContext,
  type AdviceKind,
} from './advice/finding.ts'
export {
  demandByWeek,
  reviewCapacity,
  type WeeksOfDemand,
  weeklySavings,
} from './advice/idle-commitment.ts'
export {
  DEFAULT_MODEL_ALTERNATIVES,
  type ModelAlternatives,
  modelAlternativesSchema,
} from './advice/model-alternatives.ts'
export { plainText } from './advice/plain-text.ts'
export {
  CACHE_LIFE_MS,
  CACHE_MIN_TOKENS,
  CACHE_STEP_TOKENS,
  promptCaching,
  type RepeatedPrompts,
} from './advice/prompt-caching.ts'
export {
  breakEvenUtilization,
  cheapestChoice,
  type Demand,
  demandQuantiles,
  idleShare,
  reservedChoices,
} from './advice/reserved-capacity.ts'
export { retriesAndErrors, type WastedCalls } from './advice/retries-and-errors.ts'
export { MONTH_DAYS, type SavingInterval } from './advice/saving-interval.ts'
export {
  type Advice,
  AdviceTally,
  confidenceOf,
  SAVING_MIN_USD,
} from './advice/tally.ts'
export { weeklyInterval } from './advice/weekly-interval.ts'
export {
  ALERT_KINDS,
  ALERT_STATES,
  type AlertKind,
  type AlertState,
  SNOOZE_MAX_MS,
  statesBefore,
} from './alerts/alert-state.ts'
export { DELIVERY_WINDOW_MS, type FailedAttempt, nextAttemptMs, retryAfterMs } from './alerts/back-off.ts'
export { type StraightLine, straightLine } from './alerts/forecast.ts'
export {
  ANOMALY_DEFAULTS,
  type AnomalySettings,
  HISTORY_HOURS,
  HOUR_MS,
  type SpendBaseline,
  spendBaseline,
} from './alerts/spend-anomaly.ts'
export { percentSpent, reachedThresholds, scopeText } from './alerts/threshold.ts'
export type {
  BudgetDimension,
  BudgetPeriod,
  BudgetScope,
  BudgetStatus,
  Enforcement,
} from './budgets/budget.ts'
export { creditDecision, type Decision, decisionOf } from './budgets/decision.ts'
export {
  BUDGET_DIMENSIONS,
  type BudgetDefinition,
  type BudgetDefinitionJson,
  budgetDefinitionOf,
  budgetDefinitionSchema,
  budgetDefinitionToJson,
  isBudgetDimension,
} from './budgets/definition.ts'
export { type PeriodRule, periodAt, periodBefore } from './budgets/period.ts'
export { type HardLimit, type HoldVerdict, placeHolds } from './budgets/place-holds.ts'
export {
  type ModelPreference,
  type ParsedPolicies,
  type Policy,
  type PolicyJson,
  parsePolicies,
  policySchema,
  scopeOfText,
} from './budgets/policy.ts'
export { percentOf, remainingOf, rolledOver } from './budgets/standing.ts'
export { formatInstant, isTimeZone, offsetMinutes, startOfDayMs } from './calendar/time-zone.ts'
export {
  type CorrectedEvent,
  correctedEvent,
  type EventChanges,
  eventChangesSchema,
} from './corrections/corrected-event.ts'
export { type CorrectionSums, CorrectionTally, type RatedEvent } from './corrections/correction-sums.ts'
export { correctionEntryId } from './corrections/entry-ids.ts'
export { backTest, type OriginErrors, weightedError } from './forecast/back-test.ts'
export { combined, type DailyMethod, seasonalNaive } from './forecast/daily-methods.ts'
export {
  type Contestant,
  type ForecastMethod,
  type ForecastRequest,
  forecastSeries,
  hourHalf80,
  type SeriesForecast,
} from './forecast/forecast.ts'
export { halfAt, type Spread } from './forecast/intervals.ts'
export {
  expectedThresholds,
  forecastUntil,
  type KnownForecast,
  type Projection,
  projectBudget,
  spentAnd,
} from './forecast/projection.ts'
export {
  attributeGpuTime,
  GPU_TOKEN_WEIGHTS,
  type GpuAttribution,
  type GpuCall,
  type GpuInterval,
} from './gpu/attribution.ts'
export { costPerMillionTokens } from './gpu/cost-per-million.ts'
export { handOut } from './gpu/hand-out.ts'
export {
  GPU_SAMPLE_EVERY_MS,
  GPU_SAMPLE_GAP_MS,
  type GpuSample,
  type MeasuredGpuTime,
  measureGpuTime,
} from './gpu/measured-time.ts'
export {
  BILLING_SYSTEMS,
  type BillingProfile,
  billingProfileSchema,
  LINE_DIMENSIONS,
  type LineDimension,
} from './invoicing/billing-profile.ts'
export {
  type CorrectedUsage,
  type CorrectionCredit,
  type CreditableInvoice,
  type CreditableLine,
  type CreditedLine,
  type CreditPlan,
  type CreditRequest,
  planCorrectionCredit,
  planCredit,
  usageCharge,
} from './invoicing/credit-note.ts'
export { type Cycle, closableCycles, cycleFrom, firstCycleStartMs, localDate } from './invoicing/cycle.ts'
export {
  type DatedStatus,
  DISPUTE_ORDER,
  INVOICE_PAYMENT_ORDER,
  PAYOUT_ORDER,
  type StatusOrder,
  supersedes,
} from './invoicing/dated-status.ts'
export {
  INVOICE_STATUSES,
  type Invoice,
  type InvoiceDocument,
  type InvoiceLine,
  type InvoiceSelection,
  type InvoiceStatus,
  type LineConversion,
  type LineKind,
} from './invoicing/invoice.ts'
export {
  type AppliedRate,
  appliedRate,
  type DraftRequest,
  draftInvoice,
  type InvoiceDraft,
  type InvoiceRate,
  type UsageSum,
} from './invoicing/invoice-lines.ts'
export {
  type BookedCreditNote,
  creditNoteEntry,
  invoiceEntry,
  type JournalEntry,
  type JournalEntryKind,
  type JournalLine,
  voidEntry,
} from './invoicing/journal.ts'
export {
  DEFAULT_JOURNAL_ACCOUNTS,
  type JournalAccounts,
  journalAccountsSchema,
} from './invoicing/journal-accounts.ts'
export { roundAmount, roundLines, roundTo } from './invoicing/round-lines.ts'
export { buildMarkupBook, type PreparedMarkupBook, type RuleSubject } from './markup/markup-book.ts'
export {
  allRuleSpans,
  type FixedPrice,
  type MarkupBasis,
  type MarkupRule,
  type MarkupRuleVersion,
  type MarkupTerms,
  type RuleMatch,
  type RuleSpan,
  ruleSpans,
} from './markup/markup-rule.ts'
export {
  type MarkupRuleJson,
  markupRuleBody,
  markupRuleJson,
  newMarkupRuleJson,
  type RuleDraft,
  readRule,
  ruleDraft,
  ruleId,
  ruleToJson,
} from './markup/markup-rule-json.ts'
export {
  planRules,
  RULES_MAX,
  type RuleChange,
  type RulePlan,
  type RuleProblem,
  tiesAmong,
} from './markup/rule-changes.ts'
export {
  checkRuleFile,
  type Position,
  type RuleFile,
  type RuleFileEntry,
  type RuleFileIssue,
} from './markup/rule-file.ts'
export { parseRules } from './markup/rule-language.ts'
export { listFactor, unitPrices } from './markup/sell-price.ts'
export { type Decimal, decimal, decimalFromLiteral, decimalText, perMillion, ZERO } from './money/decimal.ts'
export { divideToSignificant, percentText } from './money/divide.ts'
export { invoiceDigits } from './money/minor-units.ts'
export { defaultStart, mayBeginAt, rivalsOf } from './pricing/backdating.ts'
export { callMultiplier, type PricedCall } from './pricing/call-multiplier.ts'
export { comparableModel, type ModelMatch, modelMatcher, modelMatchSchema } from './pricing/model-match.ts'
export { isModelPattern, modelPatternMatch } from './pricing/model-pattern.ts'
export { buildPriceBook, type CallCircumstances, type PriceBook } from './pricing/price-book.ts'
export {
  type DatedRates,
  isLargeChange,
  type PriceChange,
  priceChanges,
} from './pricing/price-changes.ts'
export {
  type PriceConditions,
  type PriceVersion,
  priceText,
  type Rate,
  type RateTier,
  ratesSchema,
  type TierMode,
  type TimeOfDay,
  timeOfDaySchema,
} from './pricing/price-version.ts'
export { catalogueProvider } from './pricing/provider-aliases.ts'
export { REGION_PRICES, type RegionPrice, regionMultiplier } from './pricing/region-prices.ts'
export {
  canonicalTier,
  SERVICE_TIER_PRICES,
  type ServiceTierPrice,
  tokenMultiplier,
} from './pricing/service-tiers.ts'
export {
  buildCurrencyBook,
  type CustomerCurrency,
  crossRate,
  FX_RATE_DIGITS,
  type PublishedRate,
} from './rating/currency-book.ts'
export { type Margin, marginOf } from './rating/margin.ts'
export { isPartOfInput } from './rating/marginal-tiers.ts'
export {
  modelNames,
  type RatedLine,
  type Rating,
  type RatingStatus,
  rate,
  type UnpricedReason,
} from './rating/rate.ts'
export { type RateCard, rateCard, type UnitPrice } from './rating/rate-card.ts'
export {
  type Conversion,
  type CurrencyBook,
  chargedAmount,
  type MarkupBook,
  NO_CURRENCIES,
  NO_MARKUPS,
  type RatingBook,
  type Sale,
  type SellBook,
  sell,
} from './rating/sell.ts'
export { CAUSES, type Cause } from './reconciliation/cell.ts'
export type { LedgerHour, VendorFigure } from './reconciliation/gather.ts'
export { modelWords } from './reconciliation/model-words.ts'
export {
  type Comparison,
  type Coverage,
  RECONCILIATION_GROUPS,
  type ReconcileInput,
  type Reconciliation,
  type ReconciliationGroup,
  reconcile,
} from './reconciliation/reconcile.ts'
export {
  type ChargeKind,
  isVendor,
  isVendorSource,
  VENDOR_SOURCES,
  VENDORS,
  type Vendor,
  type VendorRow,
  type VendorSource,
  type VendorSourceName,
} from './reconciliation/vendor-source.ts'
export {
  disjointQuantities,
  findContradictions,
  METERS,
  type MeterDefinition,
  type Quantities,
} from './usage/meters.ts'
export {
  type CommonFields,
  commonFieldsOf,
  forEachAttribute,
  forEachCommonAttribute,
  forEachOwnAttribute,
  hasSameCommonFields,
  type SpanAttributes,
  type SpanView,
  usageEventJsonFromSpan,
  usageEventToAttributes,
} from './usage/otel-attributes.ts'
export {
  type CountedTokens,
  type Dimensions,
  dimensionsToJson,
  type FieldIssue,
  type HostMetadata,
  type ParsedUsageEvent,
  parseUsageEvent,
  QUANTITY_MAX,
  type Receipt,
  TS_AHEAD_MAX_MS,
  TS_MIN_MS,
  type UsageEvent,
  type UsageEventJson,
  type UsageStatus,
  usageEventSchema,
  usageEventToJson,
} from './usage/usage-event.ts'
export { isVendorUsage, type VendorUsage, vendorUsageOf } from './usage/vendor-usage.ts'
