export { adviseOrganization } from './advise.ts'
export { defineAdviceJob } from './jobs.ts'
export { type AdviceRoutesDependencies, registerAdviceRoutes } from './routes.ts'
