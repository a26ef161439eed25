export {
  bundledCatalogue,
  bundledCatalogueSource,
  type CatalogueModel,
  type CataloguePrice,
  catalogueModels,
  cataloguePriceId,
} from './catalogue.ts'
