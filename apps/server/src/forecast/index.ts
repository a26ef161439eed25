/** What will be spent: forecasts by scope, made off the event loop, kept and scored. */
export { defineForecastJobs, type ForecastJobDependencies, forecastAll } from './jobs.ts'
export type { MakeDependencies } from './make.ts'
export { registerForecastRoutes } from './routes.ts'
export { readForecasts, type StoredForecast } from './store.ts'
export { ForecastThread } from './worker/forecast-thread.ts'
