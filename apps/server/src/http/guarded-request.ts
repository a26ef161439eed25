import { lookup as resolveName } from 'node:dns/promises'
import { type IncomingHttpHeaders, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { type AllowedTargets, isForbiddenAddress } from './forbidden-address.ts'

/**
 * Requests to URLs that a caller has named. The target's addresses are checked when it is named
 * (`targetComplaint`) and again when the connection is made, and the connection goes to the very addresses that
 * were checked: a name that means something else a moment later (DNS rebinding) changes nothing. Redirects are
 * never followed, proxies never used, and neither time nor answer is unbounded.
 */

/** Well-known ports that a webhook may use; others below 1024 belong to other protocols. */
const WEB_PORTS = new Set([80, 443])
const FIRST_FREE_PORT = 1024
/** As much of an answer as is read, unless told otherwise. */
const ANSWER_MAX_BYTES = 16 * 1024

export interface ResolvedAddress {
  readonly address: string
  readonly family: number
}

/** All addresses of a host name. @throws when there is none */
export type Resolve = (host: string) => Promise<readonly ResolvedAddress[]>

const resolveAll: Resolve = (host) => resolveName(host, { all: true })

export interface GuardOptions {
  readonly allowed: AllowedTargets
  /** Another way to resolve names, for tests. */
  readonly resolve?: Resolve
}

/** The target must not be asked: it is not public, or no web address. */
export class ForbiddenTarget extends Error {
  override readonly name = 'ForbiddenTarget'
}

/**
 * What is wrong with a target, in words for whoever named it; undefined when it may be asked. Resolves names.
 */
export async function targetComplaint(target: string, guard: GuardOptions): Promise<string | undefined> {
  const url = URL.parse(target)
  if (url === null) return 'must be a URL'
  const complaint = shapeComplaint(url, guard.allowed)
  if (complaint !== undefined) return complaint
  try {
    await allowedAddresses(url, guard)
    return undefined
  } catch (error) {
    if (error instanceof ForbiddenTarget) return error.message
    return `names the host ${url.hostname}, which cannot be resolved`
  }
}

/** What the URL alone tells. */
function shapeComplaint(url: URL, allowed: AllowedTargets): string | undefined {
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'must begin with https:// or http://'
  if (url.username !== '' || url.password !== '') return 'must not contain a user name or password'
  const port = portOf(url)
  if (port < FIRST_FREE_PORT && !WEB_PORTS.has(port) && !allowed.allowsHost(bareHost(url))) {
    return `names port ${port}; allowed are 80, 443 and those from ${FIRST_FREE_PORT} on`
  }
  return undefined
}

/** @throws ForbiddenTarget when one of the host's addresses is not allowed; whatever resolving throws */
async function allowedAddresses(
  url: URL,
  { allowed, resolve = resolveAll }: GuardOptions,
): Promise<readonly ResolvedAddress[]> {
  const host = bareHost(url)
  const family = isIP(host)
  const addresses = family === 0 ? await resolve(host) : [{ address: host, family }]
  if (allowed.allowsHost(host)) return addresses
  for (const { address } of addresses) {
    if (allowed.allowsAddress(address) || !isForbiddenAddress(address)) continue
    throw new ForbiddenTarget(
      family === 0
        ? `names the host ${host}, whose address ${address} is not public; TOKENTALLY_WEBHOOK_ALLOW can allow it`
        : `names the address ${address}, which is not public; TOKENTALLY_WEBHOOK_ALLOW can allow it`,
    )
  }
  return addresses
}

function bareHost(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '')
}

function portOf(url: URL): number {
  if (url.port !== '') return Number(url.port)
  return url.protocol === 'https:' ? 443 : 80
}

export interface GuardedRequest {
  /** Default: POST. */
  readonly method?: 'GET' | 'POST' | 'PUT'
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  /** Until the answer's last byte, name resolution included. */
  readonly timeoutMs: number
  /** As much of the answer as is read. Default: 16 KiB. */
  readonly answerMaxBytes?: number
}

export interface GuardedAnswer {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly headers: IncomingHttpHeaders
  /** The beginning of the answer. */
  readonly text: string
}

/**
 * Sends a request to a target that a caller has named, once.
 *
 * @throws ForbiddenTarget when it must not be asked; Error when there is no answer in time
 */
export async function guardedRequest(sent: GuardedRequest, guard: GuardOptions): Promise<GuardedAnswer> {
  const { url: target, timeoutMs } = sent
  const url = new URL(target)
  const complaint = shapeComplaint(url, guard.allowed)
  if (complaint !== undefined) throw new ForbiddenTarget(complaint)
  const signal = AbortSignal.timeout(timeoutMs)
  try {
    const addresses = await untilAborted(allowedAddresses(url, guard), signal)
    return await send(url, sent, addresses, signal)
  } catch (error) {
    if (signal.aborted) throw new Error(`did not answer within ${timeoutMs} ms`, { cause: error })
    throw error
  }
}

function send(
  url: URL,
  { method = 'POST', headers, body, answerMaxBytes = ANSWER_MAX_BYTES }: GuardedRequest,
  addresses: readonly ResolvedAddress[],
  signal: AbortSignal,
): Promise<GuardedAnswer> {
  const request = url.protocol === 'https:' ? requestHttps : requestHttp
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      {
        method,
        headers: {
          ...headers,
          ...(body !== undefined && { 'content-length': String(Buffer.byteLength(body)) }),
        },
        // A connection of its own: none that was made before the addresses were checked.
        agent: false,
        lookup: pinned(addresses),
        signal,
      },
      (incoming) => {
        const chunks: Buffer[] = []
        let bytes = 0
        const finish = () => {
          resolve({
            status: incoming.statusCode ?? 0,
            retryAfter: incoming.headers['retry-after'],
            headers: incoming.headers,
            text: Buffer.concat(chunks).subarray(0, answerMaxBytes).toString('utf8'),
          })
        }
        incoming.on('data', (chunk: Buffer) => {
          chunks.push(chunk)
          bytes += chunk.byteLength
          if (bytes < answerMaxBytes) return
          finish()
          incoming.destroy()
        })
        incoming.on('end', finish)
        incoming.on('error', reject)
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/** Answers every question for addresses with those that were checked. */
function pinned(addresses: readonly ResolvedAddress[]): LookupFunction {
  return (host, options, callback) => {
    const [first] = addresses
    if (first === undefined) callback(new Error(`${host} has no address`), '', 0)
    else if (options.all === true) callback(null, [...addresses])
    else callback(null, first.address, first.family)
  }
}

async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
