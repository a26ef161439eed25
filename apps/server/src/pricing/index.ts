export {
  bundledCatalogue,
  bundledCatalogueSource,
  type CatalogueModel,
  catalogueModels,
} from '@tokentally/prices'
export { createPriceBookCache, type PriceBookCache } from './price-book-cache.ts'
export { type PricingRoutesDeps, registerPricingRoutes } from './routes.ts'
export { importCatalogue, loadPriceBook, PRICE_BOOK_LOCK } from './store.ts'
