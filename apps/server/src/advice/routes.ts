import type { App } from '../http/app.ts'
import type { AdviceDependencies } from './advise.ts'
import { registerCommitmentRoutes } from './commitment-routes.ts'
import { registerRecommendationRoutes } from './recommendation-routes.ts'

export type AdviceRoutesDependencies = AdviceDependencies

/** Registers `/api/v1/recommendations`, `/api/v1/advice/model-alternatives` and `/api/v1/commitments`. */
export function registerAdviceRoutes(app: App, dependencies: AdviceRoutesDependencies): void {
  registerRecommendationRoutes(app, dependencies)
  registerCommitmentRoutes(app, dependencies)
}
