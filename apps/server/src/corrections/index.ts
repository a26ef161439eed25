export { type CorrectionRouteDependencies, registerCorrectionRoutes } from './routes.ts'
