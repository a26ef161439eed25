import { readFileSync } from 'node:fs'
import { countTokens } from 'gpt-tokenizer/encoding/cl100k_base'
import { countTokens as countO200k } from 'gpt-tokenizer/encoding/o200k_base'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { countCorpus, ERROR_TABLE_HEAD, errorRow, type Reference } from '../../test/tokenizer-table.ts'
import { OTHER_MODELS, TOKENIZERS, type Vocabulary } from './registry.ts'
import { loadVocabulary } from './vocabularies.ts'

const read = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8')
const page = read('../../../../docs/reference/tokenizers.md')
const references = z
  .record(z.string(), z.object({ source: z.string(), counts: z.record(z.string(), z.number()) }))
  .parse(JSON.parse(read('../../test/tokenizer-references.json')))

const plain = { disallowedSpecial: new Set<string>() }
const gptTokenizer = (count: (text: string) => number): Reference => ({
  source: `gpt-tokenizer ${manifestVersion('gpt-tokenizer')}`,
  counts: countCorpus(count),
})

function manifestVersion(name: string): string {
  const manifest: unknown = JSON.parse(read(`../../../../node_modules/${name}/package.json`))
  return z.object({ version: z.string() }).parse(manifest).version
}

/** What stands in the error table: all that has a reference. What is optional is measured without its package. */
async function errorTable(): Promise<string[]> {
  const rows = [
    [
      'GPT-3.5, GPT-4',
      { kind: 'tiktoken', encoding: 'cl100k_base' },
      gptTokenizer((text) => countTokens(text, plain)),
    ],
    ['GPT-4o and later', O200K, gptTokenizer((text) => countO200k(text, plain))],
    ['Llama 3', { kind: 'llama3' }, references['Llama 3']],
    ...['Gemini, Gemma', 'DeepSeek', 'Qwen', 'Mistral', 'Cohere'].map(
      (family) => [family, O200K, references[family]] as const,
    ),
  ] as const satisfies readonly (readonly [string, Vocabulary, Reference | undefined])[]
  const lines: string[] = [...ERROR_TABLE_HEAD]
  for (const [family, vocabulary, reference] of rows) {
    if (reference === undefined) throw new Error(`no reference of ${family}`)
    const { encodedLength } = await loadVocabulary(vocabulary)
    lines.push(errorRow(family, countCorpus(encodedLength), reference))
  }
  return lines
}
const O200K = { kind: 'tiktoken', encoding: 'o200k_base' } as const

describe('docs/reference/tokenizers.md', () => {
  it('has the errors that are measured', async () => {
    expect(page).toContain((await errorTable()).join('\n'))
  })

  it('has a row for every entry of the registry', () => {
    const rows = [...page.matchAll(/^\| \*\*(.+?)\*\* \| (.+?) \|/gm)].map(([, family, tokenizer]) => [
      family,
      tokenizer,
    ])
    const written = [...TOKENIZERS, OTHER_MODELS].map(({ family, vocabulary }) => [
      family,
      nameOf(vocabulary),
    ])
    expect(rows).toEqual(written)
  })
})

function nameOf(vocabulary: Vocabulary): string {
  switch (vocabulary.kind) {
    case 'tiktoken':
      return `\`tiktoken/${vocabulary.encoding}\``
    case 'llama3':
      return '`llama3-tokenizer-js`'
    case 'claude2':
      return '`@anthropic-ai/tokenizer`'
    case 'optional':
      return `\`${vocabulary.package}\` where installed, else \`tiktoken/o200k_base\``
  }
}
