export { createRollupAnnouncer, defineRollupJobs } from './jobs.ts'
export { compareRollups, type RollupDifference, resetRollups } from './rebuild.ts'
export {
  ENTRY_SIGN,
  ENTRY_SUMS,
  holdOffRollups,
  LATE_SUMS,
  type RollupLag,
  rollUp,
  rollupLag,
  SUMMARY_COLUMNS,
} from './roll-up.ts'
