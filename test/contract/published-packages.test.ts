import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'

/**
 * What would be published, used as a stranger does: built and packed from a copy of the sources, unpacked into
 * a project that has nothing but the declared dependencies, imported by plain Node without the condition
 * `source`.
 */

const run = promisify(execFile)
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** Packages by name, with their folders. */
const FOLDERS = {
  core: 'packages/core',
  prices: 'packages/prices',
  providers: 'packages/providers',
  meter: 'packages/meter',
  express: 'packages/express',
  koa: 'packages/koa',
  cli: 'apps/cli',
} as const
const ALL = ['core', 'prices', 'providers', 'meter', 'express', 'koa', 'cli'] as const
/** Those that are imported; the other one is a command. */
const NAMES = ['core', 'prices', 'providers', 'meter', 'express', 'koa'] as const
/** Their examples print what the comments behind them say; the others' open a port. */
const RUNNABLE = ['core', 'prices', 'providers', 'meter'] as const
const TYPES_OF_FRAMEWORKS = ['@types/node', '@types/express', '@types/koa']

const manifestSchema = z.looseObject({
  name: z.string(),
  version: z.string(),
  description: z.string().min(20),
  keywords: z.array(z.string()).min(3),
  license: z.literal('MIT'),
  type: z.literal('module'),
  private: z.never().optional(),
  engines: z.object({ node: z.literal('>=22.18') }),
  files: z.array(z.string()),
  exports: z
    .record(z.string(), z.object({ source: z.string(), types: z.string(), default: z.string() }))
    .default({}),
  bin: z.record(z.string(), z.string()).default({}),
  publishConfig: z.object({ access: z.literal('public') }),
  dependencies: z.record(z.string(), z.string()).default({}),
  peerDependencies: z.record(z.string(), z.string()).default({}),
})
type Manifest = z.infer<typeof manifestSchema>

interface Published {
  readonly name: (typeof ALL)[number]
  readonly manifest: Manifest
  /** Paths inside the package. */
  readonly files: readonly string[]
}

let directory = ''
let consumer = ''
const published: Published[] = []

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tokentally-published-'))
  const tree = join(directory, 'tree')
  await copySources(tree)
  await run(
    process.execPath,
    [join(ROOT, 'node_modules/typescript/bin/tsc'), '--build', ...Object.values(FOLDERS)],
    { cwd: tree },
  )
  consumer = join(directory, 'consumer')
  for (const name of ALL) published.push(await packInto(consumer, join(tree, FOLDERS[name]), name))
  await linkDependencies()
})

afterAll(() =>
  process.env['KEEP'] ? console.log(directory) : rm(directory, { recursive: true, force: true }),
)

/** The packages' sources, on the installed dependencies but with packages of its own. */
async function copySources(tree: string): Promise<void> {
  await mkdir(join(tree, 'node_modules', '@tokentally'), { recursive: true })
  await cp(join(ROOT, 'tsconfig.base.json'), join(tree, 'tsconfig.base.json'))
  for (const entry of await readdir(join(ROOT, 'node_modules'))) {
    if (entry === '@tokentally' || entry.startsWith('.')) continue
    await symlink(join(ROOT, 'node_modules', entry), join(tree, 'node_modules', entry))
  }
  for (const name of ALL) {
    const target = join(tree, FOLDERS[name])
    await cp(join(ROOT, FOLDERS[name]), target, {
      recursive: true,
      filter: (path) => !/[\\/](node_modules|dist)$|\.tsbuildinfo$/.test(path),
    })
    await symlink(target, join(tree, 'node_modules', packageName(name)))
    // What npm could not put at the top, because another version lies there.
    const nested = join(ROOT, FOLDERS[name], 'node_modules')
    if (existsSync(nested)) await symlink(nested, join(target, 'node_modules'))
  }
}

function packageName(name: Published['name']): string {
  return `@tokentally/${name}`
}

async function packInto(project: string, source: string, name: Published['name']): Promise<Published> {
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', directory], { cwd: source })
  const reports = z.array(z.object({ filename: z.string() })).parse(packReports(JSON.parse(stdout)))
  const target = join(project, 'node_modules', packageName(name))
  await mkdir(target, { recursive: true })
  await run('tar', [
    '-xzf',
    join(directory, reports[0]?.filename ?? ''),
    '-C',
    target,
    '--strip-components',
    '1',
  ])
  const manifest = manifestSchema.parse(JSON.parse(await readFile(join(target, 'package.json'), 'utf8')))
  const entries = await readdir(target, { recursive: true, withFileTypes: true })
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(target.length + 1))
  return { name, manifest, files }
}

/** npm 11 reports a list, npm 12 an object by name. */
function packReports(json: unknown): unknown {
  return Array.isArray(json) ? json : Object.values(z.record(z.string(), z.unknown()).parse(json))
}

/** Gives the project what the packages declare, and nothing else of what this repository has installed. */
async function linkDependencies(): Promise<void> {
  const sources = new Map(TYPES_OF_FRAMEWORKS.map((name) => [name, join(ROOT, 'node_modules', name)]))
  for (const { name: owner, manifest } of published) {
    for (const name of Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })) {
      const nested = join(ROOT, FOLDERS[owner], 'node_modules', name)
      if (!name.startsWith('@tokentally/')) {
        sources.set(name, existsSync(nested) ? nested : join(ROOT, 'node_modules', name))
      }
    }
  }
  for (const [name, source] of sources) {
    const link = join(consumer, 'node_modules', name)
    await mkdir(dirname(link), { recursive: true })
    await symlink(source, link)
  }
  await writeFile(join(consumer, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
}

async function runInConsumer(file: string, text: string, options: readonly string[] = []): Promise<string> {
  await writeFile(join(consumer, file), text)
  // As a stranger's shell: none of this process's options for Node.
  const { stdout } = await run(process.execPath, [...options, file], {
    cwd: consumer,
    env: { PATH: process.env['PATH'] },
  })
  return stdout.trim()
}

async function exampleOf(name: string): Promise<string> {
  const readme = await readFile(join(consumer, 'node_modules/@tokentally', name, 'README.md'), 'utf8')
  return /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? ''
}

describe.each(ALL)('%s', (name) => {
  const own = () => {
    const found = published.find((one) => one.name === name)
    if (found === undefined) throw new Error(`${name} was not packed`)
    return found
  }

  test('holds the build, a README and the licence, and no tests', () => {
    const { files } = own()
    expect(files).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'package.json']))
    expect(files.filter((file) => !/^dist\/.+\.(js|d\.ts|js\.map)$/.test(file)).sort()).toEqual(
      [...(name === 'cli' ? ['bin/tokentally.js'] : []), 'LICENSE', 'README.md', 'package.json'].sort(),
    )
    expect(files.filter((file) => /\.test\.|transcripts/.test(file))).toEqual([])
  })

  test('exports only files that it holds', () => {
    const { manifest, files } = own()
    for (const { types, default: entry } of Object.values(manifest.exports)) {
      expect(files).toContain(types.replace('./', ''))
      expect(files).toContain(entry.replace('./', ''))
    }
    for (const file of Object.values(manifest.bin)) expect(files).toContain(file)
  })

  test('declares every package that it imports', async () => {
    const { manifest, files } = own()
    const declared = { ...manifest.dependencies, ...manifest.peerDependencies }
    for (const file of files.filter((path) => /\.(js|d\.ts)$/.test(path))) {
      const text = await readFile(join(consumer, 'node_modules', manifest.name, file), 'utf8')
      const imports = [...text.matchAll(/(?:(?<!-)\bfrom\s*|\bimport\s*\(?\s*)['"]([^'".][^'"]*)['"]/g)].map(
        ([, specifier = '']) => specifier,
      )
      for (const specifier of imports) {
        if (specifier.startsWith('node:')) continue
        const [scopeOrName = '', rest = ''] = specifier.split('/')
        expect(declared, `${file} imports ${specifier}`).toHaveProperty([
          scopeOrName.startsWith('@') ? `${scopeOrName}/${rest}` : scopeOrName,
        ])
      }
    }
  })

  test('needs its neighbours in its own version', () => {
    const { manifest } = own()
    for (const [dependency, range] of Object.entries(manifest.dependencies)) {
      if (dependency.startsWith('@tokentally/')) expect(range).toBe(manifest.version)
    }
  })
})

test.each(RUNNABLE)('@tokentally/%s does what the example in its README says', async (name) => {
  const example = await exampleOf(name)
  const said = [...example.matchAll(/^.*console\.log\(.*\) \/\/ (.+)$/gm)].map(([, output]) => output)
  expect(said).not.toEqual([])
  expect((await runInConsumer(`${name}.ts`, example)).split('\n')).toEqual(said)
})

test('every package is imported by plain Node from its build', async () => {
  const text = `for (const name of ${JSON.stringify(NAMES)}) {
    await import('@tokentally/' + name)
    console.log(import.meta.resolve('@tokentally/' + name).split('@tokentally/')[1])
  }`
  expect((await runInConsumer('import.js', text)).split('\n')).toEqual(
    NAMES.map((name) => `${name}/dist/index.js`),
  )
})

test('the published command reads what the published meter wrote', async () => {
  const text = `import { record, shutdown, start } from '@tokentally/meter'
    start()
    record({ provider: 'openai', model: 'gpt-4o-mini', input_tokens: 1200, output_tokens: 300, customer_id: 'acme' })
    await shutdown()`
  await rm(join(consumer, '.tokentally'), { recursive: true, force: true })
  await runInConsumer('spend.js', text)
  const { stdout } = await run(
    process.execPath,
    ['node_modules/@tokentally/cli/bin/tokentally.js', 'cost', '--by', 'customer', '--format', 'csv'],
    { cwd: consumer, env: { PATH: process.env['PATH'] } },
  )
  expect(stdout.split('\r\n')[1]).toBe('acme,1,1200,300,0.00036,0')
})

test('the published tokenizer counts in its worker', async () => {
  const text = `import { createTokenCounter } from '@tokentally/providers'
    const counter = createTokenCounter()
    // Its worker keeps no process alive.
    const waiting = setTimeout(() => undefined, 60_000)
    console.log((await counter.count('hello world', 'gpt-4o')).tokenizer)
    clearTimeout(waiting)
    await counter.close()`
  expect(await runInConsumer('count.js', text)).toMatch(/^tiktoken\/o200k_base@/)
})

test('metering can start before the first import, by --import', async () => {
  const text = `import { record } from '@tokentally/meter'
    try {
      record({ provider: 'openai', model: 'gpt-4o-mini', input_tokens: 1 })
      console.log('recorded')
    } catch (error) {
      console.log(error.message)
    }`
  expect(await runInConsumer('late.js', text)).toBe('tokentally: call start() first')
  expect(await runInConsumer('late.js', text, ['--import', '@tokentally/meter/register'])).toBe('recorded')
})

test('the published types hold by themselves, and so do the examples of the READMEs', async () => {
  const files = await Promise.all(
    NAMES.map(async (name) => {
      await writeFile(join(consumer, `${name}.ts`), `${await exampleOf(name)}\nexport {}\n`)
      return `${name}.ts`
    }),
  )
  const compilerOptions = {
    module: 'nodenext',
    target: 'es2024',
    strict: true,
    noEmit: true,
    // A dependency whose types are missing would turn what is made of it into "any", silently.
    skipLibCheck: false,
    types: ['node'],
  }
  await writeFile(join(consumer, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
  const output = await run(
    process.execPath,
    [join(ROOT, 'node_modules/typescript/bin/tsc'), '--project', '.', '--pretty', 'false'],
    { cwd: consumer },
  ).then(
    ({ stdout }) => stdout,
    (error: unknown) => z.object({ stdout: z.string() }).parse(error).stdout,
  )
  // Types of others may be at odds with each other; that is not ours to judge.
  const errors = output
    .split('\n')
    .filter((line) => line.includes('error TS') && !/^(\.\.\/|node_modules\/(?!@tokentally\/))/.test(line))
  expect(errors).toEqual([])
})
