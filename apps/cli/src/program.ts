import { readFileSync } from 'node:fs'
import { TS_MIN_MS } from '@tokentally/core'
import { COST_DIMENSIONS, LocalFileError, localFilePath } from '@tokentally/meter/local'
import { Command, CommanderError, Option } from 'commander'
import { z } from 'zod'
import { COST_FORMATS, type CostFormat, printCosts } from './cost-command.ts'
import { EXPORT_FORMATS, type ExportFormat, exportEvents } from './export-command.ts'
import { openLocalSource } from './local-source.ts'
import { applyPolicies, checkPolicies } from './policies-command.ts'
import { LENGTHS, monthBefore, type RangeFlags, readRange } from './range.ts'
import { reconcileFile } from './reconcile-command.ts'
import { RULE_FORMATS, type RuleFormat } from './rule-file.ts'
import { applyRules, checkRules } from './rules-command.ts'
import { ServiceError } from './service-request.ts'
import { openServiceSource } from './service-source.ts'
import { type Terminal, WrongUsage } from './terminal.ts'
import type { CostQuery, UsageSource } from './usage-source.ts'
import { WrongFile } from './wrong-file.ts'

/** Done, also when there was nothing to show. */
const DONE = 0
/** The usage could not be read, or the output not written. */
const FAILED = 1
/** The command line is wrong. */
const MISUSED = 2

const DEFAULT_SPOOL = '.tokentally/spool'

interface SourceFlags extends RangeFlags {
  readonly provider?: string
  readonly customer?: string
  readonly file?: string
  readonly url?: string
  readonly apiKey?: string
}

interface CostFlags extends SourceFlags {
  readonly by: CostQuery['by']
  readonly format: CostFormat
}

interface RulesFlags {
  readonly format?: RuleFormat
}

interface PolicyFlags {
  readonly dryRun?: boolean
  readonly prune?: boolean
  readonly url?: string
  readonly apiKey?: string
}

interface ReconcileFlags {
  readonly source?: string
  readonly part?: string
  readonly url?: string
  readonly apiKey?: string
}

interface ApplyFlags extends RulesFlags, PolicyFlags {}

interface ExportFlags extends SourceFlags {
  readonly format: ExportFormat
  readonly output?: string
}

/**
 * Runs `tokentally ARGUMENTS`. Reports go to standard output, everything else to standard error.
 *
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage
 */
export async function runCommandLine(arguments_: readonly string[], terminal: Terminal): Promise<number> {
  try {
    await program(terminal).parseAsync(arguments_, { from: 'user' })
    return DONE
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? DONE : MISUSED
    terminal.stderr.write(`tokentally: ${error instanceof Error ? error.message : String(error)}\n`)
    if (error instanceof WrongUsage) return MISUSED
    if (
      error instanceof LocalFileError ||
      error instanceof ServiceError ||
      error instanceof WrongFile ||
      isSystemError(error)
    )
      return FAILED
    // A fault of ours: where it happened helps whoever mends it.
    if (error instanceof Error && error.stack !== undefined) terminal.stderr.write(`${error.stack}\n`)
    return FAILED
  }
}

/** As published; the manifest lies beside the sources and beside what is built of them. */
function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  return z.object({ version: z.string() }).parse(manifest).version
}

function program(terminal: Terminal): Command {
  const root = new Command('tokentally')
    .description('What LLM calls cost: of a metered app in local mode, or of a TokenTally service.')
    .version(version(), '-V, --version', 'the version of this command')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .showHelpAfterError('(--help shows what can be asked)')

  const cost = root
    .command('cost')
    .description('cost at list price, in groups; the last 30 days unless a range is given')
    .addOption(new Option('--last <length>', 'up to now').choices(LENGTHS))
    .addOption(new Option('--by <dimension>', 'what to group by').choices(COST_DIMENSIONS).default('model'))
    .addOption(new Option('--format <format>', 'how to print').choices(COST_FORMATS).default('table'))
    .action((flags: CostFlags) => {
      const range = readRange(flags, terminal.now(), monthBefore)
      const { by, format, timeZone, provider, customer } = flags
      return withSource(flags, terminal, (source) =>
        printCosts(source, { ...range, provider, customer, by, timeZone, format }, terminal),
      )
    })
  const exporting = root
    .command('export')
    .description('the events themselves, one a line; all of them unless a range is given')
    .addOption(new Option('--last <length>', 'up to now').choices(LENGTHS))
    .addOption(new Option('--format <format>', 'how to write').choices(EXPORT_FORMATS).default('csv'))
    .option('--output <file>', 'where to write; standard output by default')
    .action((flags: ExportFlags) => {
      const range = readRange(flags, terminal.now(), () => TS_MIN_MS)
      const { format, output, provider, customer } = flags
      return withSource(flags, terminal, (source) =>
        exportEvents(source, { ...range, provider, customer, format, output }, terminal),
      )
    })
  for (const command of [cost, exporting]) {
    command
      .option('--from <time>', 'a date or an instant, included')
      .option('--to <time>', 'a date or an instant, excluded')
      .option('--time-zone <zone>', 'IANA name: where days begin', 'UTC')
      .option('--provider <provider>', 'of this provider alone')
      .option('--customer <customer>', 'of this customer alone')
      .option('--file <path>', 'file of local mode; beside TOKENTALLY_SPOOL by default')
      .option('--url <url>', 'a service (TOKENTALLY_URL)')
      .option('--api-key <key>', 'of the service, scope read (TOKENTALLY_API_KEY)')
  }
  addRulesCommands(root, terminal)
  addPoliciesCommands(root, terminal)
  addReconcileCommand(root, terminal)
  return root
}

function addRulesCommands(root: Command, terminal: Terminal): void {
  const rules = root
    .command('rules')
    .description('markup rules as a file: what customers pay beside the list price')
  const format = () =>
    new Option('--format <format>', 'what FILE is in; by its name unless given').choices(RULE_FORMATS)
  rules
    .command('check')
    .description('reads a rule file and names every problem with its line, without asking anybody')
    .argument('<file>')
    .addOption(format())
    .action((path: string, flags: RulesFlags) => checkRules({ path, format: flags.format }, terminal))
  rules
    .command('apply')
    .description(
      "makes a service's rules those of the file: shows what changes, then changes all of it or nothing",
    )
    .argument('<file>')
    .addOption(format())
    .option('--dry-run', 'only show what would change')
    .option('--prune', 'end the rules that the file does not have')
    .option('--url <url>', 'the service (TOKENTALLY_URL)')
    .option('--api-key <key>', 'of the service, scope write (TOKENTALLY_API_KEY)')
    .action((path: string, flags: ApplyFlags) => {
      const service = serviceOf(flags, terminal, 'write')
      if (service === undefined)
        throw new WrongUsage('rules are applied to a service: give --url (or TOKENTALLY_URL)')
      const { format: given, dryRun = false, prune = false } = flags
      return applyRules({ path, format: given, isDryRun: dryRun, prune, ...service }, terminal)
    })
}

function addPoliciesCommands(root: Command, terminal: Terminal): void {
  const policies = root.command('policies').description('budgets and preferences of models as a file in YAML')
  policies
    .command('check')
    .description('reads a file of policies and names every problem with its line, without asking anybody')
    .argument('<file>')
    .action((path: string) => checkPolicies(path, terminal))
  policies
    .command('apply')
    .description("makes a service's budgets and preferences what the file says, all of it or nothing")
    .argument('<file>')
    .option('--dry-run', 'only show what would change')
    .option('--prune', 'remove what earlier files made and this one does not name')
    .option('--url <url>', 'the service (TOKENTALLY_URL)')
    .option('--api-key <key>', 'of the service, scope write (TOKENTALLY_API_KEY)')
    .action((path: string, flags: PolicyFlags) => {
      const service = serviceOf(flags, terminal, 'write')
      if (service === undefined)
        throw new WrongUsage('policies are applied to a service: give --url (or TOKENTALLY_URL)')
      const { dryRun = false, prune = false } = flags
      return applyPolicies(path, { isDryRun: dryRun, prune }, { ...service, fetch: terminal.fetch }, terminal)
    })
}

function addReconcileCommand(root: Command, terminal: Terminal): void {
  root
    .command('reconcile')
    .description("sends a vendor's usage or cost file to a service and shows it beside what was metered")
    .argument('<file>')
    .option(
      '--source <source>',
      'what FILE is, such as openai_usage or aws_cur; told by the file unless given',
    )
    .option('--part <name>', 'names files that stand beside each other for the same days')
    .option('--url <url>', 'the service (TOKENTALLY_URL)')
    .option('--api-key <key>', 'of the service, scopes read and write (TOKENTALLY_API_KEY)')
    .action((path: string, flags: ReconcileFlags) => {
      const service = serviceOf(flags, terminal, 'write')
      if (service === undefined)
        throw new WrongUsage('a file is compared by a service: give --url (or TOKENTALLY_URL)')
      const { source, part } = flags
      return reconcileFile({ path, source, part }, { ...service, fetch: terminal.fetch }, terminal)
    })
}

/** The service to ask, by flags or environment; undefined when none is named. */
function serviceOf(
  flags: { readonly url?: string; readonly apiKey?: string },
  { environment }: Terminal,
  scope: 'read' | 'write',
): { readonly url: string; readonly apiKey: string } | undefined {
  const url = flags.url ?? environment['TOKENTALLY_URL']
  if (!url) return undefined
  if (!URL.canParse(url)) {
    throw new WrongUsage(`the URL "${url}" is none; write it as http://127.0.0.1:4000`)
  }
  const apiKey = flags.apiKey ?? environment['TOKENTALLY_API_KEY']
  if (!apiKey) {
    throw new WrongUsage(`a service needs --api-key (or TOKENTALLY_API_KEY) with the scope ${scope}`)
  }
  return { url, apiKey }
}

async function withSource(
  flags: SourceFlags,
  terminal: Terminal,
  work: (source: UsageSource) => Promise<void>,
): Promise<void> {
  const source = openSource(flags, terminal)
  try {
    await work(source)
  } finally {
    source.close()
  }
}

/** A flag wins over the environment: `--file` reads a file although `TOKENTALLY_URL` is set. */
function openSource(flags: SourceFlags, terminal: Terminal): UsageSource {
  const { file, url } = flags
  if (file !== undefined && url !== undefined) throw new WrongUsage('--file and --url exclude each other')
  const service = file === undefined ? serviceOf(flags, terminal, 'read') : undefined
  if (service !== undefined) return openServiceSource({ ...service, fetch: terminal.fetch })
  return openLocalSource(file ?? localFilePath(terminal.environment['TOKENTALLY_SPOOL'] || DEFAULT_SPOOL))
}

/** The disk is full, the directory is missing. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error
}
