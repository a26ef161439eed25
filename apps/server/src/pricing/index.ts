export {
  bundledCatalogue,
  bundledCatalogueSource,
  type CatalogueModel,
  catalogueModels,
} from '@tokentally/prices'
export { refusal } from './change-markup-rules.ts'
export { type CurrencyRoutesDeps, registerCurrencyRoutes } from './currency-routes.ts'
export { ECB, lastRate, rateSources } from './currency-store.ts'
export { definePriceRefreshJob, refreshPriceMetric } from './jobs.ts'
export { type MarkupRoutesDeps, registerMarkupRoutes } from './markup-routes.ts'
export { listMarkupRules } from './markup-store.ts'
export { createRatingBookCache, type RatingBookCache } from './rating-book-cache.ts'
export { importCatalogue } from './refresh.ts'
export { defineFxJob, type RefreshFxDependencies } from './refresh-fx.ts'
export { type PricingRoutesDeps, registerPricingRoutes } from './routes.ts'
export { loadPriceBook, loadRatingBook, PRICE_BOOK_LOCK } from './store.ts'
