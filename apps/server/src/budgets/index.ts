/** Limits of spending: budgets and how they stand, what follows from it for calls. */
export { DecisionHub, type DecisionHubDependencies } from './decisions/decision-hub.ts'
export { registerDecisionRoutes } from './decisions/routes.ts'
export { HoldDesk } from './holds/hold-desk.ts'
export { registerHoldRoutes } from './holds/routes.ts'
export { type BudgetJobDependencies, defineBudgetJobs } from './jobs.ts'
export { registerPolicyRoutes } from './policies/routes.ts'
export { type BudgetRoutesDependencies, registerBudgetRoutes } from './routes.ts'
export { budgetStatuses } from './status.ts'
