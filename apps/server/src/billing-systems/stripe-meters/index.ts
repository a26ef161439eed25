export { defineMeterJob, type MeterJobDependencies } from './jobs.ts'
export { type MeterRouteDependencies, registerMeterRoutes } from './routes.ts'
