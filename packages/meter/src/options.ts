import type { Dimensions } from '@tokentally/core'
import { type EndpointMapping, parseEndpoints } from '@tokentally/providers'
import type { WhenUnavailable } from './enforce/enforcer.ts'
import { parseModels } from './model-names.ts'
import type { LeftStreamLimits } from './tap/tap.ts'

/** A dimension: a value, or a function of the request (of nothing, outside of a web framework). */
export type Resolver<Source, Value> = Value | ((source: Source) => Value | undefined)

/** Whom calls are for. */
export interface DimensionResolvers<Source> {
  readonly customer?: Resolver<Source, string>
  readonly user?: Resolver<Source, string>
  readonly team?: Resolver<Source, string>
  readonly project?: Resolver<Source, string>
  readonly businessUnit?: Resolver<Source, string>
  readonly costCenter?: Resolver<Source, string>
  readonly feature?: Resolver<Source, string>
  readonly conversation?: Resolver<Source, string>
  readonly agent?: Resolver<Source, string>
  /** Also `TOKENTALLY_ENVIRONMENT`. */
  readonly environment?: Resolver<Source, string>
  readonly tags?: Resolver<Source, Readonly<Record<string, string>>>
}

/** Options of the meter. Each also by environment; an option wins over its variable. */
export interface MeterOptions {
  /** The service's URL (`TOKENTALLY_URL`). Without it the meter runs in local mode, on a SQLite file. */
  readonly url?: string
  /** A key with the scope `ingest` (`TOKENTALLY_API_KEY`). */
  readonly apiKey?: string
  /** Further base URLs and the wire format spoken there (`TOKENTALLY_ENDPOINTS`): `http://127.0.0.1:8000/v1=openai`. */
  readonly endpoints?: string
  /**
   * Which models stand behind names that say nothing of them, where the answer does not either (`TOKENTALLY_MODELS`):
   * `my-deployment=gpt-4o-mini,arn:aws:bedrock:…=anthropic.claude-sonnet-4-5-20250929-v1:0`.
   */
  readonly models?: string
  /** Directory of the spool and of local mode's file (`TOKENTALLY_SPOOL`). Default `.tokentally/spool`. */
  readonly spool?: string
  /** Size of the spool at which new events are dropped and counted. Default 256 MiB. */
  readonly spoolBytesMax?: number
  /** Ask OpenAI-format streams for their usage where the app does not, and hide the extra chunk. Default true. */
  readonly injectStreamUsage?: boolean
  /**
   * Finish streams that the app leaves early in the background, to learn their true usage. Default 30 s and
   * 16 MiB. The provider bills the rest of the answer then; `false` cuts the stream and estimates.
   */
  readonly finishLeftStreams?: LeftStreamLimits | false
  /**
   * Of how many calls the tokens are counted beside the provider (`TOKENTALLY_TOKENIZER_SAMPLE`), from 0 to 1, to
   * see a tokenizer drift. Default 0: an event of the sample waits for its count in memory, where a killed process
   * loses it. Text only, and only where the tokenizer claims to be exact.
   */
  readonly tokenizerSample?: number
  /** With it, events carry a keyed hash of the prompt (`TOKENTALLY_PROMPT_HASH_KEY`). Text is never sent. */
  readonly promptHashKey?: string
  /**
   * Ask the cloud's metadata service, in the background, where the process runs (`TOKENTALLY_DETECT_HOST`).
   * Default true; nothing is asked on a machine that shows no sign of a cloud.
   */
  readonly detectHost?: boolean
  /**
   * Whom a result of a batch is for, by the `custom_id` that the app gave it. It must depend on that alone: the
   * same result may be fetched again, by another process. Default: results have no dimensions.
   */
  readonly batchDimensions?: (customId: string) => Dimensions
  /**
   * Hold calls to the service's budgets (`TOKENTALLY_ENFORCE`): a call that a limit does not allow fails at once
   * with a `BudgetExceededError`, and does not leave the process. Default false. While the service cannot be
   * reached, calls go through (true, `'open'`), or fail (`'closed'`).
   */
  readonly enforce?: boolean | WhenUnavailable
  /** Told of everything that goes wrong in the meter. Default: a line on standard error, once per message. */
  readonly onError?: (error: unknown) => void
}

/** Options with every default filled in. */
export interface Settings {
  readonly url: string | undefined
  readonly apiKey: string
  readonly endpoints: readonly EndpointMapping[]
  readonly models: ReadonlyMap<string, string>
  readonly spoolDirectory: string
  readonly spoolBytesMax: number
  readonly injectStreamUsage: boolean
  readonly finishLeftStreams: LeftStreamLimits | false
  readonly tokenizerSample: number
  readonly promptHashKey: string | undefined
  readonly batchDimensions: ((customId: string) => Dimensions) | undefined
  readonly enforce: WhenUnavailable | false
  readonly environment: string | undefined
  readonly detectHost: boolean
  readonly onError: (error: unknown) => void
}

const DEFAULT_SPOOL = '.tokentally/spool'
const DEFAULT_SPOOL_BYTES_MAX = 256 * 1024 * 1024
const DEFAULT_LEFT_STREAMS: LeftStreamLimits = { timeoutMs: 30_000, bytesMax: 16 * 1024 * 1024 }

const DEFAULT_TOKENIZER_SAMPLE = 0

const METER_OPTIONS: ReadonlySet<string> = new Set([
  'url',
  'apiKey',
  'endpoints',
  'models',
  'spool',
  'spoolBytesMax',
  'injectStreamUsage',
  'finishLeftStreams',
  'tokenizerSample',
  'promptHashKey',
  'detectHost',
  'batchDimensions',
  'enforce',
  'onError',
])

const DIMENSIONS = [
  'customer',
  'user',
  'team',
  'project',
  'businessUnit',
  'costCenter',
  'feature',
  'conversation',
  'agent',
  'environment',
  'tags',
] as const satisfies readonly (keyof Dimensions)[]

/**
 * Checks options and fills in defaults.
 *
 * @throws TypeError for a wrong option, with its cure; here and then, never on a request
 */
export function readOptions(
  options: MeterOptions & DimensionResolvers<never>,
  environment: Readonly<Record<string, string | undefined>>,
): Settings {
  for (const name of Object.keys(options)) {
    if (!METER_OPTIONS.has(name) && !isDimension(name)) {
      throw new TypeError(
        `tokentally: "${name}" is no option; known: ${[...METER_OPTIONS, ...DIMENSIONS].join(', ')}`,
      )
    }
  }
  const url = options.url ?? environment['TOKENTALLY_URL']
  const apiKey = options.apiKey ?? environment['TOKENTALLY_API_KEY']
  if (url !== undefined && url !== '' && !URL.canParse(url)) {
    throw new TypeError(`tokentally: url "${url}" is no URL; write it as http://127.0.0.1:4000`)
  }
  if (url && !apiKey)
    throw new TypeError('tokentally: url needs an apiKey (or TOKENTALLY_API_KEY) with the scope ingest')
  const enforce = readEnforce(options.enforce ?? environment['TOKENTALLY_ENFORCE'])
  if (enforce === 'closed' && !url) {
    throw new TypeError(
      "tokentally: enforce 'closed' needs the url of the service that decides (or TOKENTALLY_URL)",
    )
  }
  return {
    url: url ? url.replace(/\/+$/, '') : undefined,
    apiKey: apiKey ?? '',
    endpoints: parseEndpoints(options.endpoints ?? environment['TOKENTALLY_ENDPOINTS'] ?? ''),
    models: parseModels(options.models ?? environment['TOKENTALLY_MODELS'] ?? ''),
    spoolDirectory: options.spool ?? environment['TOKENTALLY_SPOOL'] ?? DEFAULT_SPOOL,
    spoolBytesMax: options.spoolBytesMax ?? DEFAULT_SPOOL_BYTES_MAX,
    injectStreamUsage: options.injectStreamUsage ?? environment['TOKENTALLY_INJECT_STREAM_USAGE'] !== 'false',
    finishLeftStreams:
      options.finishLeftStreams ??
      (environment['TOKENTALLY_FINISH_LEFT_STREAMS'] === 'false' ? false : DEFAULT_LEFT_STREAMS),
    tokenizerSample: readFraction(options.tokenizerSample ?? environment['TOKENTALLY_TOKENIZER_SAMPLE']),
    promptHashKey: options.promptHashKey ?? environment['TOKENTALLY_PROMPT_HASH_KEY'],
    batchDimensions: cleaned(options.batchDimensions),
    enforce,
    environment: environment['TOKENTALLY_ENVIRONMENT'],
    detectHost: options.detectHost ?? environment['TOKENTALLY_DETECT_HOST'] !== 'false',
    onError: options.onError === undefined ? reportOnce() : reportSafely(options.onError),
  }
}

function cleaned(
  batchDimensions: MeterOptions['batchDimensions'],
): ((customId: string) => Dimensions) | undefined {
  return batchDimensions && ((customId) => cleanDimensions(batchDimensions(customId)))
}

/** @throws TypeError for what is no policy */
function readEnforce(value: boolean | string | undefined): WhenUnavailable | false {
  switch (value) {
    case undefined:
    case '':
    case false:
    case 'false':
      return false
    case true:
    case 'true':
    case 'open':
      return 'open'
    case 'closed':
      return 'closed'
    default:
      throw new TypeError(`tokentally: enforce "${value}" must be true, false, "open" or "closed"`)
  }
}

/** @throws TypeError for what is no fraction */
function readFraction(value: number | string | undefined): number {
  const fraction = value === undefined || value === '' ? DEFAULT_TOKENIZER_SAMPLE : Number(value)
  if (!(fraction >= 0 && fraction <= 1)) {
    throw new TypeError(`tokentally: tokenizerSample "${value}" must be a number from 0 to 1`)
  }
  return fraction
}

function isDimension(name: string): boolean {
  return DIMENSIONS.some((dimension) => dimension === name)
}

/** Longest id that the service takes. */
const TEXT_MAX = 512

/**
 * The dimensions of a request. A resolver that throws is reported and its dimension left out; a value that is
 * no text is made one, an empty one counts as none.
 */
export function resolveDimensions<Source>(
  resolvers: DimensionResolvers<Source>,
  source: Source,
  onError: (error: unknown) => void,
): Dimensions {
  const dimensions: Record<string, string | Readonly<Record<string, string>>> = {}
  for (const name of DIMENSIONS) {
    const resolver = resolvers[name]
    if (resolver === undefined) continue
    try {
      const value: unknown = typeof resolver === 'function' ? resolver(source) : resolver
      const clean = name === 'tags' ? cleanTags(value) : cleanText(value)
      if (clean !== undefined) dimensions[name] = clean
    } catch (error) {
      onError(error)
    }
  }
  return dimensions
}

/** Dimensions as an application gives them, made such that the service takes them. */
export function cleanDimensions(dimensions: Dimensions): Dimensions {
  const plain: DimensionResolvers<undefined> = dimensions
  return resolveDimensions(plain, undefined, () => undefined)
}

function cleanText(value: unknown): string | undefined {
  if (value === undefined || value === null || typeof value === 'object') return undefined
  const text = String(value).slice(0, TEXT_MAX).toWellFormed().replaceAll('\0', '')
  return text === '' ? undefined : text
}

const TAGS_MAX = 50
const TAG_NAME_MAX = 64

function cleanTags(value: unknown): Readonly<Record<string, string>> | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const tags = Object.entries(value)
    .flatMap(([name, tag]) => {
      const text = cleanText(tag)
      return name === '' || name.length > TAG_NAME_MAX || text === undefined ? [] : [[name, text] as const]
    })
    .slice(0, TAGS_MAX)
  return tags.length === 0 ? undefined : Object.fromEntries(tags)
}

/** An `onError` that throws must not reach the application's call. */
function reportSafely(onError: (error: unknown) => void): (error: unknown) => void {
  return (error) => {
    try {
      onError(error)
    } catch {
      reportToStandardError(error)
    }
  }
}

const REMEMBERED_MESSAGES_MAX = 100

function reportOnce(): (error: unknown) => void {
  const reported = new Set<string>()
  return (error) => {
    const message = error instanceof Error ? error.message : String(error)
    if (reported.has(message) || reported.size >= REMEMBERED_MESSAGES_MAX) return
    reported.add(message)
    reportToStandardError(error)
  }
}

function reportToStandardError(error: unknown): void {
  process.stderr.write(`tokentally: ${error instanceof Error ? error.message : String(error)}\n`)
}
