/** Limits of spending: budgets and how they stand. */
export { type BudgetRoutesDependencies, registerBudgetRoutes } from './routes.ts'
export { budgetStatuses } from './status.ts'
