export {
  bundledCatalogue,
  bundledCatalogueSource,
  catalogueModels,
  cataloguePriceId,
} from './catalogue.ts'
export { CatalogueFileError, parseCatalogueFile } from './catalogue-file.ts'
export { type CatalogueModel, type CataloguePrice, catalogueModelSchema } from './catalogue-model.ts'
