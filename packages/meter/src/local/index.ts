/** `@tokentally/meter/local`: reads the file of local mode. Importing it taps nothing. */
export { type CostSummary, type CostSums, dearestFirst, sumOf } from './cost-summary.ts'
export { LocalFileError, localFilePath } from './local-file.ts'
export type { StoredUsage } from './local-rating.ts'
export {
  COST_DIMENSIONS,
  type CostDimension,
  type CostGroup,
  type LocalRange,
  type LocalReader,
  openLocalReader,
} from './local-report.ts'
