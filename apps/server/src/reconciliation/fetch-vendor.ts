import { createHash } from 'node:crypto'
import { retryAfterMs, type Vendor, type VendorSourceName } from '@tokentally/core'
import { numbersAsText, OPENAI_USAGE_PARTS, REPORT_FORMATS } from '@tokentally/providers'
import { z } from 'zod'
import { type GuardOptions, guardedRequest } from '../http/guarded-request.ts'
import { FigureSums, type ImportedFigures } from './imported.ts'

/** Asks a vendor's admin API for its figures of some days, page by page. */

/** The vendors that answer by an API; the others write exports, which are sent as files. */
export const FETCHED_VENDORS = ['openai', 'anthropic'] as const
export type FetchedVendor = (typeof FETCHED_VENDORS)[number]

export function isFetched(vendor: Vendor): vendor is FetchedVendor {
  return FETCHED_VENDORS.some((name) => name === vendor)
}

const BASE_URLS: Readonly<Record<FetchedVendor, string>> = {
  openai: 'https://api.openai.com',
  anthropic: 'https://api.anthropic.com',
}
const TIMEOUT_MS = 30_000
const ANSWER_MAX_BYTES = 32 * 1024 * 1024
const PAGES_MAX = 1_000
/** Each page is tried this often; waits double from a second, and are as long as the vendor asks for, up to a minute. */
const ATTEMPTS = 5
const FIRST_WAIT_MS = 1_000
const WAIT_MAX_MS = 60_000
const DAY_MS = 24 * 3_600_000

/** The vendor did not give its figures; the message is for whoever set up the connection. */
export class VendorFetchError extends Error {
  override readonly name = 'VendorFetchError'
}

export interface FetchRequest {
  readonly vendor: FetchedVendor
  readonly baseUrl: string | null
  readonly adminKey: string
  /** UTC days, `endMs` excluded. */
  readonly startMs: number
  readonly endMs: number
}

export interface FetchDependencies {
  readonly guard: GuardOptions
  readonly now: () => Date
  readonly wait: (ms: number) => Promise<void>
}

interface Endpoint {
  readonly source: VendorSourceName
  readonly path: string
  readonly part: string
  readonly query: readonly (readonly [string, string])[]
}

/** @throws VendorFetchError, and BillingError when an answer is not what its reference says */
export async function* fetchFigures(
  dependencies: FetchDependencies,
  request: FetchRequest,
): AsyncGenerator<ImportedFigures> {
  for (const endpoint of endpointsOf(request)) {
    yield await fetchEndpoint(dependencies, request, endpoint)
  }
}

function endpointsOf({ vendor, startMs, endMs }: FetchRequest): readonly Endpoint[] {
  if (vendor === 'openai') {
    const range = [
      ['start_time', String(startMs / 1000)],
      ['end_time', String(endMs / 1000)],
      ['bucket_width', '1d'],
      ['limit', '31'],
    ] as const
    const groups = (names: readonly string[]) => names.map((name) => ['group_by[]', name] as const)
    return [
      ...OPENAI_USAGE_PARTS.map((part) => ({
        source: 'openai_usage' as const,
        path: `/v1/organization/usage/${part}`,
        part,
        query: [
          ...range,
          ...groups([
            'model',
            'api_key_id',
            'project_id',
            ...(part === 'completions' ? ['batch', 'service_tier'] : []),
          ]),
        ],
      })),
      {
        source: 'openai_costs',
        path: '/v1/organization/costs',
        part: 'costs',
        query: [...range, ...groups(['line_item', 'project_id'])],
      },
    ]
  }
  const range = [
    ['starting_at', new Date(startMs).toISOString().replace('.000', '')],
    ['ending_at', new Date(endMs).toISOString().replace('.000', '')],
    ['bucket_width', '1d'],
    ['limit', '31'],
  ] as const
  const groups = (names: readonly string[]) => names.map((name) => ['group_by[]', name] as const)
  return [
    {
      source: 'anthropic_usage',
      path: '/v1/organizations/usage_report/messages',
      part: 'messages',
      query: [...range, ...groups(['model', 'api_key_id', 'workspace_id', 'service_tier'])],
    },
    {
      source: 'anthropic_costs',
      path: '/v1/organizations/cost_report',
      part: 'cost_report',
      query: [...range, ...groups(['description', 'workspace_id'])],
    },
  ]
}

const pageSchema = z.looseObject({ has_more: z.boolean(), next_page: z.string().nullish() })

async function fetchEndpoint(
  dependencies: FetchDependencies,
  request: FetchRequest,
  endpoint: Endpoint,
): Promise<ImportedFigures> {
  const format = REPORT_FORMATS.find(({ source }) => source === endpoint.source)
  if (format === undefined) throw new Error(`no format reads ${endpoint.source}`)
  const sums = new FigureSums()
  const hash = createHash('sha256')
  let page: string | undefined
  for (let pages = 0; ; pages++) {
    if (pages === PAGES_MAX) throw new VendorFetchError(`${endpoint.path} has more than ${PAGES_MAX} pages`)
    const text = await ask(dependencies, request, urlOf(request, endpoint, page))
    hash.update(text)
    const document = documentOf(endpoint, text)
    const report = format.read(document)
    sums.lines += report.rows.length + report.ignored
    sums.ignoredLines += report.ignored
    for (const day of report.days) sums.addDay(day)
    for (const row of report.rows) sums.add(row)
    const { has_more: hasMore, next_page: next } = pageSchema.parse(document)
    if (!hasMore) break
    if (next === null || next === undefined || next === page) {
      throw new VendorFetchError(`${endpoint.path} says that there is more and names no next page`)
    }
    page = next
  }
  // Without buckets for them, the vendor has still told of the days: nothing was used.
  for (let ms = request.startMs; ms < request.endMs; ms += DAY_MS) {
    sums.addDay(new Date(ms).toISOString().slice(0, 10))
  }
  return {
    source: endpoint.source,
    part: endpoint.part,
    days: sums.days(),
    rows: sums.rows(),
    lines: sums.lines,
    ignoredLines: sums.ignoredLines,
    contentSha256: hash.digest(),
  }
}

function documentOf(endpoint: Endpoint, text: string): unknown {
  try {
    const document: unknown = JSON.parse(numbersAsText(text))
    if (pageSchema.safeParse(document).success) return document
  } catch {
    // Told below: what is no JSON is no page either.
  }
  throw new VendorFetchError(`${endpoint.path} did not answer with a page of a report`)
}

function urlOf(request: FetchRequest, endpoint: Endpoint, page: string | undefined): string {
  const url = new URL(`${(request.baseUrl ?? BASE_URLS[request.vendor]).replace(/\/+$/, '')}${endpoint.path}`)
  for (const [name, value] of endpoint.query) url.searchParams.append(name, value)
  if (page !== undefined) url.searchParams.set('page', page)
  return url.href
}

async function ask(
  { guard, now, wait }: FetchDependencies,
  { vendor, adminKey }: FetchRequest,
  url: string,
): Promise<string> {
  const headers =
    vendor === 'openai'
      ? { authorization: `Bearer ${adminKey}` }
      : { 'x-api-key': adminKey, 'anthropic-version': '2023-06-01' }
  const path = new URL(url).pathname
  let failure = ''
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    let waitMs = Math.min(WAIT_MAX_MS, FIRST_WAIT_MS * 2 ** attempt)
    try {
      const answer = await guardedRequest(
        { method: 'GET', url, headers, timeoutMs: TIMEOUT_MS, answerMaxBytes: ANSWER_MAX_BYTES },
        guard,
      )
      if (answer.status === 200) {
        if (Buffer.byteLength(answer.text) >= ANSWER_MAX_BYTES) {
          throw new VendorFetchError(`${path} answered more than ${ANSWER_MAX_BYTES} bytes`)
        }
        return answer.text
      }
      failure = `${path} answered ${answer.status}`
      if (answer.status === 401 || answer.status === 403) {
        throw new VendorFetchError(`${failure}: an admin key of the organization is needed`)
      }
      if (answer.status !== 429 && answer.status < 500) throw new VendorFetchError(failure)
      waitMs = Math.min(WAIT_MAX_MS, retryAfterMs(answer.retryAfter, now().getTime()) ?? waitMs)
    } catch (error) {
      if (error instanceof VendorFetchError) throw error
      failure = `${path}: ${error instanceof Error ? error.message : String(error)}`
    }
    if (attempt < ATTEMPTS - 1) await wait(waitMs)
  }
  throw new VendorFetchError(`${failure}, ${ATTEMPTS} times`)
}
