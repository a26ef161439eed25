import { buildPriceBook, type PriceBook } from '@tokentally/core'
import { bundledCatalogue, bundledCatalogueSource, cataloguePriceId } from '@tokentally/prices'

let book: Promise<PriceBook> | undefined

/** The list prices that come with the package. Read when they are first needed, and kept. */
export function bundledPriceBook(): Promise<PriceBook> {
  book ??= readPriceBook()
  return book
}

/** Names the prices: what was unpriced by one edition is looked up again in the next. */
export function priceEdition(): string {
  return bundledCatalogueSource()
}

async function readPriceBook(): Promise<PriceBook> {
  const catalogue = await bundledCatalogue()
  const source = bundledCatalogueSource()
  let sequence = 0
  const versions = catalogue.flatMap((model) =>
    model.prices.map((price, position) => ({
      id: cataloguePriceId(model, position, null),
      organizationId: null,
      provider: model.provider,
      model: model.model,
      match: model.match,
      effectiveFromMs: price.startMs,
      timeOfDay: price.timeOfDay,
      serviceTier: model.serviceTier,
      inputTokensMax: price.inputTokensMax,
      rates: price.rates,
      source: model.source ?? source,
      sequence: sequence++,
    })),
  )
  return buildPriceBook(versions, 1)
}
