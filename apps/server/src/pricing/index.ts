export {
  bundledCatalogue,
  bundledCatalogueSource,
  type CatalogueModel,
  catalogueModels,
} from '@tokentally/prices'
export { refusal } from './change-markup-rules.ts'
export { type CurrencyRoutesDeps, registerCurrencyRoutes } from './currency-routes.ts'
export { type MarkupRoutesDeps, registerMarkupRoutes } from './markup-routes.ts'
export { listMarkupRules } from './markup-store.ts'
export { createRatingBookCache, type RatingBookCache } from './rating-book-cache.ts'
export { defineFxJob, type RefreshFxDependencies } from './refresh-fx.ts'
export { type PricingRoutesDeps, registerPricingRoutes } from './routes.ts'
export { importCatalogue, loadPriceBook, loadRatingBook, PRICE_BOOK_LOCK } from './store.ts'
