import type { Writable } from 'node:stream'
import { setOwn } from './own-method.ts'

/**
 * Sees the body of a request as the application writes it, and can send another one instead.
 *
 *   open      each piece is kept, up to `KEPT_MAX_BYTES`, and goes out at once. The ordinary case: most clients
 *             hand the whole body to `end`.
 *   holding   the body may have to be changed, which shows only when it is whole: pieces given to `write` are kept
 *             back until `end`. More than `KEPT_MAX_BYTES`, more than `HOLD_MAX_MS`, or headers that are sent
 *             meanwhile (`flushHeaders`), and it is open from there on: the pieces go out as they came, unchanged.
 *   ended     by the application's `end`: the body, or what is sent instead of it, has gone out.
 *   refused   pieces are taken and thrown away.
 *   stopped   nobody is interested any more.
 */
export interface OutgoingWatch {
  /** What was written so far. */
  text(): string
  stop(): void
}

export interface OutgoingRules {
  /** Whether another body could still be sent, and might have to be. */
  mayReplace(): boolean
  /**
   * The body is whole, but for what was more than is kept.
   *
   * @param isReplaceable whether a body that is returned will be sent
   * @returns what to send instead
   */
  whole(text: string, isReplaceable: boolean): string | undefined
  /** The request is refused: whatever the application still writes goes nowhere. */
  isRefused?(): boolean
}

/** Enough for a prompt with images; of a longer body the rest is not read, and none of it replaced. */
export const KEPT_MAX_BYTES = 16 * 1024 * 1024
/** Writing a body that lies ready takes no time; one that is still being made is not waited for. */
export const HOLD_MAX_MS = 1_000

/** @param outgoing a request of `node:http`, or a stream of `node:http2` */
export function watchOutgoing(outgoing: Writable, rules: OutgoingRules): OutgoingWatch {
  const { write, end } = outgoing
  let pieces: (string | Buffer)[] = []
  let bytes = 0
  let isKeptWhole = true
  let held = 0
  let isHolding = rules.mayReplace()
  let timer: NodeJS.Timeout | undefined

  const keep = (chunk: unknown, encoding: unknown): boolean => {
    const isText = typeof chunk === 'string'
    if (!isText && !(chunk instanceof Uint8Array)) return false
    // The application may use its memory again.
    const piece = !isText ? Buffer.from(chunk) : isForeign(encoding) ? Buffer.from(chunk, encoding) : chunk
    const length = Buffer.byteLength(piece)
    isKeptWhole &&= bytes + length <= KEPT_MAX_BYTES
    if (!isKeptWhole) return false
    bytes += length
    pieces.push(piece)
    return true
  }
  const open = () => {
    isHolding = false
    clearTimeout(timer)
    const waiting = pieces.slice(0, held)
    held = 0
    if (!outgoing.destroyed) for (const piece of waiting) Reflect.apply(write, outgoing, [piece])
  }
  const text = () => {
    if (pieces.every((piece) => typeof piece === 'string')) return pieces.join('')
    return Buffer.concat(pieces.map((piece) => Buffer.from(piece))).toString('utf8')
  }
  const stop = () => {
    restoreWrite()
    restoreEnd()
    clearTimeout(timer)
    pieces = []
  }

  const restoreWrite = setOwn(outgoing, 'write', (...args) => {
    const [chunk, encoding] = args
    if (rules.isRefused?.() === true) return swallow(args, true)
    if (isHolding && !rules.mayReplace()) open()
    // Whatever is no body is Node's to complain about.
    if (!keep(chunk, encoding) && isHolding) open()
    if (!isHolding) return Reflect.apply(write, outgoing, args)
    held = pieces.length
    timer ??= setTimeout(open, HOLD_MAX_MS)
    return swallow(args, true)
  })
  const restoreEnd = setOwn(outgoing, 'end', (...args) => {
    const [chunk, encoding] = args
    const isHeld = held > 0
    if (rules.isRefused?.() === true) return swallow(args, outgoing)
    if (chunk !== undefined && chunk !== null && typeof chunk !== 'function') keep(chunk, encoding)
    const isReplaceable = isHolding && isKeptWhole && rules.mayReplace()
    const replacement = rules.whole(text(), isReplaceable)
    // What is destroyed must not be written to: it would fail twice.
    if (rules.isRefused?.() === true) {
      clearTimeout(timer)
      pieces = []
      return swallow(args, outgoing)
    }
    if (replacement === undefined || !isReplaceable) {
      if (isHeld) open()
      stop()
      return Reflect.apply(end, outgoing, args)
    }
    stop()
    const ended = args.find((arg) => typeof arg === 'function')
    // As the application did: written, then ended, or all at once.
    if (isHeld) Reflect.apply(write, outgoing, [replacement])
    return Reflect.apply(end, outgoing, [
      ...(isHeld ? [] : [replacement, 'utf8']),
      ...(ended === undefined ? [] : [ended]),
    ])
  })
  return { text, stop }
}

/** Does as if what is written had gone out. */
function swallow<T>(args: readonly unknown[], answer: T): T {
  const written = args.find((arg) => typeof arg === 'function')
  if (typeof written === 'function') process.nextTick(() => Reflect.apply(written, undefined, []))
  return answer
}

/** Whether a text is written in another encoding than UTF-8. */
function isForeign(encoding: unknown): encoding is BufferEncoding {
  return typeof encoding === 'string' && Buffer.isEncoding(encoding) && !/^utf-?8$/i.test(encoding)
}
