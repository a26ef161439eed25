/** What somebody should know, and telling it: alerts, channels, deliveries. */
export type { BudgetStatuses } from './evaluate-budgets.ts'
export { type AlertJobDependencies, createEvaluationAnnouncer, defineAlertJobs } from './jobs.ts'
export { createMailer, type Mailer } from './mailer.ts'
export { type AlertRouteDependencies, registerAlertRoutes } from './routes.ts'
