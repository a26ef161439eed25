export { type ReportDependencies, registerReportRoutes } from './routes.ts'
