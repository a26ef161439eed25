export { registerSimulationRoutes, type SimulationRoutesDeps } from './routes.ts'
