export { defineGpuJobs, type GpuJobDependencies } from './jobs.ts'
export { type GpuRouteDependencies, registerGpuRoutes } from './routes.ts'
