export { aggregate, bucketText, type Sums } from './aggregate.ts'
export { bucketExpression, filterConditions, type Granularity } from './aggregate-query.ts'
export { DIMENSION_COLUMNS, type DimensionFilter, dimensionOf } from './dimensions.ts'
export {
  type EventPosition,
  encodeCursor,
  listCorrectionEntries,
  noCursor,
  readCursor,
} from './events-query.ts'
export { readFilters } from './filters.ts'
export { rangeParameters, readPeriod, zoneOf } from './period.ts'
export { type ReportDependencies, registerReportRoutes } from './routes.ts'
export { SqlParameters } from './sql-parameters.ts'
export { csvCell } from './usage-csv.ts'
