import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

/** Source text by path from the root of the repository. */
type Sources = ReadonlyMap<string, string>

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** Rooms of the service: each may import those before it. */
const ROOMS = [
  'access',
  'pricing',
  'ledger',
  'rollups',
  'reports',
  'corrections',
  'simulation',
  'budgets',
  'forecast',
  'alerts',
  'invoicing',
  'billing-systems',
  'advice',
  'reconciliation',
  'tokenizers',
  'ingest',
  'gpu',
]
const PLUMBING = ['http', 'database', 'queue', 'telemetry']
/** What each package may import beside its own files and Node's modules. */
const PACKAGE_IMPORTS: Readonly<Record<string, readonly string[]>> = {
  core: ['big.js', 'zod'],
  prices: ['@tokentally/core', '@pydantic/genai-prices', 'zod'],
  providers: ['@tokentally/core', 'tiktoken', 'llama3-tokenizer-js', 'zod'],
  meter: [
    '@tokentally/core',
    '@tokentally/prices',
    '@tokentally/providers',
    '@opentelemetry/api',
    '@opentelemetry/resources',
    '@opentelemetry/resource-detector-aws',
    '@opentelemetry/resource-detector-azure',
    '@opentelemetry/resource-detector-gcp',
    'zod',
  ],
  express: ['@tokentally/meter', 'express'],
  koa: ['@tokentally/meter', 'koa'],
  // Local mode is read where no service is: by the meter's own reader, which knows its file, and by nothing else
  // of the meter, which taps the process that imports it.
  cli: ['@tokentally/core', '@tokentally/meter/local', 'commander', 'yaml', 'zod'],
}
const SERVER = 'apps/server/src/'

describe('import rules', () => {
  test('the sources keep them', async () => {
    expect(violations(await readSources())).toEqual([])
  })

  const cases: readonly [rule: string, path: string, text: string, complaint: string][] = [
    ['core stays pure', 'packages/core/src/a.ts', "import pg from 'pg'", 'may not import pg'],
    [
      'core has no disk',
      'packages/core/src/a.ts',
      "import { open } from 'node:fs'",
      'may not import node:fs',
    ],
    [
      'packages know no app',
      'packages/meter/src/a.ts',
      "import '../../../apps/server/src/config.ts'",
      'leaves its package',
    ],
    [
      'plumbing knows no room',
      `${SERVER}http/a.ts`,
      "import { x } from '../ledger/index.ts'",
      'plumbing imports the room ledger',
    ],
    [
      'rooms come in order',
      `${SERVER}pricing/a.ts`,
      "import { x } from '../ledger/index.ts'",
      'imports ledger, which comes later',
    ],
    [
      'rooms have one door',
      `${SERVER}reports/a.ts`,
      "export { x } from '../ledger/store.ts'",
      'not through index.ts',
    ],
    [
      'the command line taps nothing',
      'apps/cli/src/a.ts',
      "import { start } from '@tokentally/meter'",
      'may not import @tokentally/meter',
    ],
    ['only main composes', `${SERVER}http/a.ts`, "await import('../compose.ts')", 'imports compose.ts'],
    ['only config reads the environment', `${SERVER}http/a.ts`, 'process.env.HOME', 'reads process.env'],
  ]
  test.each(cases)('a breach is found: %s', (_rule, path, text, complaint) => {
    expect(violations(new Map([[path, text]])).join('\n')).toContain(complaint)
  })

  test('a breach is found: no cycles', () => {
    const sources = new Map([
      ['packages/core/src/a.ts', "import { b } from './b.ts'"],
      ['packages/core/src/b.ts', "import { c } from './c.ts'"],
      ['packages/core/src/c.ts', "import { a } from './a.ts'"],
    ])
    expect(violations(sources).join('\n')).toContain('cycle')
  })

  test('words in comments and types alone do not count', () => {
    const text = "// import pg from 'pg'\n/** from 'pg' */\nimport type { B } from './b.ts'\n"
    const sources = new Map([
      ['packages/core/src/a.ts', text],
      ['packages/core/src/b.ts', "import type { A } from './a.ts'"],
    ])
    expect(violations(sources)).toEqual([])
  })
})

/** Every breach of the import rules, as a sentence that begins with the file. */
function violations(sources: Sources): string[] {
  const found: string[] = []
  for (const [path, text] of sources) {
    const isTest = path.endsWith('.test.ts')
    for (const { specifier } of importsOf(text)) {
      for (const complaint of isTest ? [] : complaintsAbout(path, specifier)) {
        found.push(`${path}: ${complaint}`)
      }
    }
    if (!isTest && path.startsWith(SERVER) && path !== `${SERVER}config.ts`) {
      if (/\bprocess\.env\b/.test(withoutComments(text))) found.push(`${path}: reads process.env`)
    }
  }
  return [...found, ...cyclesIn(sources)]
}

function complaintsAbout(path: string, specifier: string): string[] {
  const target = specifier.startsWith('.') ? normalize(join(dirname(path), specifier)) : undefined
  return path.startsWith(SERVER)
    ? serverComplaints(path, specifier, target)
    : packageComplaints(path, specifier, target)
}

function packageComplaints(path: string, specifier: string, target: string | undefined): string[] {
  const [, folder, name] = /^(packages|apps)\/([^/]+)\//.exec(path) ?? []
  const allowed = name === undefined ? undefined : PACKAGE_IMPORTS[name]
  if (name === undefined || allowed === undefined) return []
  if (target !== undefined)
    return target.startsWith(`${folder}/${name}/`) ? [] : [`leaves its package: ${specifier}`]
  if (specifier.startsWith('node:')) {
    // The tokenizer alone has a thread: counting a long text must not hold up the process that asked.
    const isPure =
      name === 'core' || (name === 'providers' && !path.startsWith('packages/providers/src/tokenizer/'))
    return isPure && specifier !== 'node:crypto' ? [`may not import ${specifier}`] : []
  }
  return allowed.some((one) => specifier === one || specifier.startsWith(`${one}/`))
    ? []
    : [`may not import ${specifier}`]
}

function serverComplaints(path: string, specifier: string, target: string | undefined): string[] {
  if (target === undefined) {
    const isOurs = specifier.startsWith('@tokentally/')
    const isAllowed = /^@tokentally\/(core|prices|providers)(\/|$)/.test(specifier)
    return isOurs && !isAllowed ? [`may not import ${specifier}`] : []
  }
  const complaints: string[] = []
  if (target === `${SERVER}compose.ts` && path !== `${SERVER}main.ts`) complaints.push('imports compose.ts')
  const from = folderOf(path)
  const to = folderOf(target)
  if (to === undefined || to === from || !ROOMS.includes(to)) return complaints
  if (from !== undefined && PLUMBING.includes(from)) complaints.push(`plumbing imports the room ${to}`)
  if (from !== undefined && ROOMS.includes(from) && ROOMS.indexOf(to) > ROOMS.indexOf(from)) {
    complaints.push(`imports ${to}, which comes later`)
  }
  if (target !== `${SERVER}${to}/index.ts`)
    complaints.push(`imports ${to} not through index.ts: ${specifier}`)
  return complaints
}

function folderOf(path: string): string | undefined {
  return path.startsWith(SERVER) ? /^([^/]+)\//.exec(path.slice(SERVER.length))?.[1] : undefined
}

/** Cycles of imports that exist when the program runs; types are gone by then. */
function cyclesIn(sources: Sources): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path)
    if (start !== -1) {
      found.push(`${path}: is in a cycle: ${[...trail.slice(start), path].join(' -> ')}`)
      return
    }
    const text = sources.get(path)
    if (text === undefined || done.has(path)) return
    for (const { specifier, isType } of importsOf(text)) {
      if (specifier.startsWith('.') && !isType)
        visit(normalize(join(dirname(path), specifier)), [...trail, path])
    }
    done.add(path)
  }
  for (const path of sources.keys()) visit(path, [])
  return found
}

/** What a file imports, statically, dynamically, or by exporting it on. */
function importsOf(text: string): { specifier: string; isType: boolean }[] {
  const pattern =
    /(?:^|[;\n])\s*(?:import|export)\s+(type\s+)?(?:[\w*{][^'";]*?\sfrom\s+)?['"]([^'"\n]+)['"]|\bimport\(\s*['"]([^'"\n]+)['"]/g
  return [...withoutComments(text).matchAll(pattern)].map(([, type, named, dynamic]) => ({
    specifier: named ?? dynamic ?? '',
    isType: type !== undefined,
  }))
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[^:'"`])\/\/.*$/gm, '$1')
}

async function readSources(): Promise<Sources> {
  const sources = new Map<string, string>()
  for (const top of ['packages', 'apps']) {
    const entries = await readdir(join(ROOT, top), { recursive: true, withFileTypes: true })
    for (const entry of entries) {
      const path = relative(ROOT, join(entry.parentPath, entry.name))
      if (
        !entry.isFile() ||
        !path.endsWith('.ts') ||
        !path.includes('/src/') ||
        path.includes('node_modules')
      )
        continue
      sources.set(path, await readFile(join(ROOT, path), 'utf8'))
    }
  }
  return sources
}
