/** Who makes models, as Bedrock writes it before a model's name. */
const MAKER =
  /^(ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen|writer|zai)\./

/**
 * A model's name without what differs from host to host: the maker, Bedrock's region and version, a date, the
 * spelling of version numbers. Two hosts with the same name serve the same weights, as far as names can tell. What
 * makes it another model or another quality stays: sizes, quantization (`fp8`), `turbo`, `free`.
 */
export function hostlessModel(name: string): string {
  let model = name.trim().toLowerCase()
  model = model.slice(model.lastIndexOf('/') + 1)
  model = model.replace(/^(global|regional|us|eu|apac|jp|au|us-gov)\.(?=[a-z0-9]+\.)/, '')
  if (MAKER.test(model))
    model = model.replace(MAKER, '').replace(/-v\d+(:\d+)?$|(?<=-\d+[bm])-\d+:\d+$|:\d+$/, '')
  model = model.replace(/[-@](20\d{6}|20\d{2}-\d{2}-\d{2})(?=$|[-:])/, '').replace(/-latest$/, '')
  // Fireworks writes 3.1 as v3p1, others as 3_1 or 3-1.
  model = model.replace(/(?<=\d)p(?=\d)/g, '.').replace(/(?<=\d)[._](?=\d)/g, '-')
  model = model.replace(/^meta-llama/, 'llama').replace(/^llama-?v?(?=\d)/, 'llama-')
  if (model.startsWith('llama-')) model = model.replace(/-(instruct|versatile|instant)$/, '')
  return model
}
