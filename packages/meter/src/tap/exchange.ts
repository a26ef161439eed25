import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { createReader, type RecognizedCall } from '@tokentally/providers'
import type { Attempt } from '../attempts.ts'
import { type CallEnd, MeteredCall } from '../call.ts'
import { pendingEvents } from '../pending-events.ts'
import { attempts, guarded, type TapDependencies } from './tap.ts'

/** What identifies a request, for linking its repetitions. */
export interface RequestKey {
  readonly url: string
  readonly body: string | undefined
  /** `X-Stainless-Retry-Count`. */
  readonly retryCount: string | null
}

/** The ways to the transport of an exchange that is left. */
export interface Upstream {
  /** Ends the transport. */
  abort(reason?: unknown): void
  /** Lets the rest of the answer come, though nobody asks for it. */
  resume(): void
}

/** Exchanges whose answers are read on, or ahead, though nobody asks for them. */
const leftExchanges = new Set<Exchange>()

/** Cuts what is read on in the background, and counts it as far as it came: the process is about to end. */
export function abandonLeft(): void {
  for (const exchange of leftExchanges) exchange.abandon()
}

/**
 * One HTTP exchange of an LLM call, as its transport sees it: head, pieces of the body, end. It decides what
 * the application may see, and what becomes of an answer that the application leaves.
 */
export class Exchange {
  readonly #dependencies: TapDependencies
  readonly #metered: MeteredCall
  readonly #key: RequestKey
  readonly #attempt: Attempt
  /** What to send instead of the application's body. */
  readonly rewrittenBody: string | undefined
  #decoder: ReturnType<typeof createGunzip> | undefined
  #status = 0
  #isLeft = false
  /** Left without being closed: the application may come back, and then gets every byte. */
  #isKept = false
  #isOver = false
  #isEnded = false
  /** The body is not what its encoding says. */
  #isBroken = false
  #bytesAfterLeaving = 0
  #timer: NodeJS.Timeout | undefined
  #onOver: (() => void) | undefined
  #upstream: Upstream | undefined
  /** The transport may follow a redirect: its answer is not the last one. */
  #isFollowed: boolean

  /**
   * @param isFollowed whether redirects are followed until `settle` says that this is over
   * @param injectStreamUsage whether the body can still be replaced
   */
  constructor(
    key: RequestKey,
    call: RecognizedCall,
    dependencies: TapDependencies,
    isFollowed: boolean,
    injectStreamUsage = dependencies.injectStreamUsage,
  ) {
    this.#dependencies = dependencies
    this.#isFollowed = isFollowed
    this.#key = key
    const reader = createReader(call, { bodyText: key.body, injectStreamUsage })
    this.#attempt = attempts.next(key, dependencies.now)
    this.#metered = new MeteredCall(dependencies, call, reader, this.#attempt)
    this.rewrittenBody = reader.rewrittenBody
  }

  /** The application has left, and the rest of the answer is read for its usage alone. */
  get isLeft(): boolean {
    return this.#isLeft
  }

  /** The last answer's head is there, or there will be none. */
  get isAnswered(): boolean {
    return this.#isOver || (this.#status >= 200 && !(this.#isFollowed && this.#isRedirect()))
  }

  /** Calls back when the exchange is over, at once if it is. */
  whenOver(callback: () => void): void {
    if (this.#isOver) callback()
    else this.#onOver = callback
  }

  /**
   * The answer's head.
   *
   * @param isEncoded whether the body will come as it is on the wire, compressed or not
   */
  respond(status: number, header: (name: string) => string | null, isEncoded: boolean): void {
    if (status < 200) return
    try {
      this.#status = status
      if (status >= 400) this.#fail()
      this.#metered.respond(status, header)
      if (isEncoded) this.#decodeAs(header('content-encoding'))
    } catch (error) {
      this.#dependencies.onError(error)
    }
  }

  /** Bytes of the body. @returns what the application may see; undefined when that is nothing */
  data(chunk: Uint8Array): Uint8Array | undefined {
    if (this.#isLeft) {
      this.#bytesAfterLeaving += chunk.length
      const { finishLeftStreams } = this.#dependencies
      if (finishLeftStreams === false || this.#bytesAfterLeaving > finishLeftStreams.bytesMax) {
        this.#abandon()
        if (!this.#isKept) return undefined
      }
    }
    if (this.#isRedirect()) return chunk
    try {
      if (this.#decoder !== undefined) {
        if (!this.#isOver && !this.#isBroken) this.#decoder.write(Buffer.from(chunk))
        return chunk
      }
      const visible = this.#metered.push(chunk)
      return visible.length === 0 ? undefined : visible
    } catch (error) {
      this.#dependencies.onError(error)
      return chunk
    }
  }

  /** The body has come to its end. @returns bytes that were held back from the application */
  complete(): Uint8Array | undefined {
    if (this.#isFollowed && this.#isRedirect()) return undefined
    // Also what was counted before its end may have bytes to give back: the application may still read it.
    const rest = this.#decoder === undefined ? this.#endOfBody() : undefined
    this.#over('complete')
    return rest !== undefined && rest.length > 0 ? rest : undefined
  }

  /** No redirect will be followed any more. */
  settle(): void {
    this.#isFollowed = false
    if (this.#isRedirect()) this.complete()
  }

  /**
   * The transport failed, before the answer's head or in the middle of its body.
   *
   * @returns bytes that were held back from the application
   */
  fail(): Uint8Array | undefined {
    if (this.#isOver) return undefined
    if (this.#status === 0) {
      this.#isOver = true
      this.#onOver?.()
      guarded(this.#dependencies, () => {
        this.#fail()
        this.#metered.fail()
      })
      return undefined
    }
    const rest = this.#decoder === undefined ? this.#endOfBody() : undefined
    this.#over('dropped')
    return rest !== undefined && rest.length > 0 ? rest : undefined
  }

  /**
   * The application leaves before the end. An answer that costs money is read on in the background, up to the
   * limits, because its end tells the usage.
   *
   * @returns false when there is nothing to read on for: the caller ends the transport as it would without us
   */
  leave(upstream: Upstream): boolean {
    if (this.#isLeft) {
      this.#upstream = upstream
      this.#isKept = false
      return !this.#isOver
    }
    const { finishLeftStreams } = this.#dependencies
    const isAnswered = this.#status >= 200 && this.#status < 300
    if (this.#isOver || !isAnswered || finishLeftStreams === false || !this.#metered.isCharged) {
      if (isAnswered) this.#over('abandoned')
      return false
    }
    this.#isLeft = true
    leftExchanges.add(this)
    this.#upstream = upstream
    this.#timer = setTimeout(() => this.#abandon(), finishLeftStreams.timeoutMs)
    this.#timer.unref()
    return true
  }

  /**
   * Nobody reads the answer, and nobody has closed it. It is read ahead as one that is left is read on, but stays
   * the application's: who comes back finds every byte. At a limit, `abort` stops the reading ahead.
   *
   * @returns false when there is nothing to read ahead for
   */
  readAhead(upstream: Upstream): boolean {
    if (this.#isLeft || !this.leave(upstream)) return false
    this.#isKept = true
    return true
  }

  /** Counts what came until now. What the application reads from here on is none of our business any more. */
  abandon(): void {
    if (this.#status === 0) this.fail()
    else this.#abandon()
  }

  get isOver(): boolean {
    return this.#isOver
  }

  /** The SDK may try again. */
  #fail(): void {
    attempts.failed(this.#key, this.#attempt, this.#dependencies.now())
  }

  #isRedirect(): boolean {
    return this.#status >= 300 && this.#status < 400
  }

  #decodeAs(encoding: string | null): void {
    if (encoding === null) return
    this.#decoder = createDecoder(encoding)
    this.#decoder?.on('data', (chunk: Buffer) => guarded(this.#dependencies, () => this.#metered.push(chunk)))
    this.#decoder?.on('error', () => {
      this.#isBroken = true
    })
  }

  #endOfBody(): Uint8Array | undefined {
    if (this.#isEnded) return undefined
    this.#isEnded = true
    try {
      return this.#metered.endOfBody()
    } catch (error) {
      this.#dependencies.onError(error)
      return undefined
    }
  }

  #over(how: CallEnd): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#onOver?.()
    if (this.#timer !== undefined) {
      leftExchanges.delete(this)
      clearTimeout(this.#timer)
    }
    const decoder = this.#decoder
    if (decoder === undefined) this.#end(how)
    else this.#endDecoded(decoder, how)
  }

  #end(how: CallEnd): void {
    try {
      this.#metered.end(how)
    } catch (error) {
      this.#dependencies.onError(error)
    }
  }

  #endDecoded(decoder: ReturnType<typeof createGunzip>, how: CallEnd): void {
    // What the decoder still holds belongs to the answer; a cut one ends in an error, and is counted too.
    const end = () => {
      this.#endOfBody()
      this.#end(how)
    }
    if (this.#isBroken) {
      end()
      return
    }
    const { promise, resolve } = Promise.withResolvers<void>()
    decoder.once('end', resolve)
    decoder.once('error', (error) => {
      if (how === 'complete') this.#dependencies.onError(error)
      resolve()
    })
    // The decoder works on another thread: a process that ends meanwhile takes what is decoded by then.
    pendingEvents.add<void>(promise, () => undefined, end)
    decoder.end()
  }

  #abandon(): void {
    if (this.#isOver) return
    this.#over('abandoned')
    this.#upstream?.abort()
  }
}

function createDecoder(encoding: string): ReturnType<typeof createGunzip> | undefined {
  switch (encoding) {
    case 'gzip':
    case 'x-gzip':
      return createGunzip()
    case 'deflate':
      return createInflate()
    case 'br':
      return createBrotliDecompress()
    case 'zstd':
      return createZstdDecompress()
    default:
      return undefined
  }
}
