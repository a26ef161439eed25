export { type DriftJobDependencies, defineDriftJob, refreshDriftMetric, watchDrift } from './jobs.ts'
export { registerTokenizerRoutes, type TokenizerRouteDependencies } from './routes.ts'
