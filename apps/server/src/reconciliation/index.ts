export {
  announceComparison,
  announceFetch,
  defineReconciliationJobs,
  refreshReconciliationMetric,
} from './jobs.ts'
export { registerReconciliationRoutes } from './routes.ts'
