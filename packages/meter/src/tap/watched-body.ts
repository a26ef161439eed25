import type { Readable } from 'node:stream'
import type { Exchange } from './exchange.ts'
import { idleBodies } from './idle-bodies.ts'
import { setOwn } from './own-method.ts'

/**
 * Watches the body of an answer that Node's `http` or `http2` hands to the application. Both put what arrives into
 * the body by `push`, and stop reading from the network when it returns false. So that is the one place where every
 * piece passes, once, before anybody sees it, whichever way the application reads: the stream is not set flowing,
 * has no further listener, and keeps its back-pressure.
 *
 * The body is
 *   open       what arrives is shown to the meter, then pushed, less what the meter asked for itself;
 *   ahead      nobody reads it (`readAhead`): the same, but the network is read on though the buffer is full, until
 *              the end or a limit, and then it is open again;
 *   detached   the application has closed it, and the transport runs on (`detach`): only the meter sees the rest;
 *   over       the end has come, or `release` was called: the stream is as if we had never been there.
 */
export interface BodyWatch {
  /** The transport runs on, but the application has closed the body. */
  detach(): void
  /** Nobody reads, and nobody has closed the body. */
  readAhead(): void
  /** Stops watching. */
  release(): void
}

/** What to do about a body that is left open. */
const leftOpen = new WeakMap<object, () => void>()

/** For bodies that are watched in another way. */
export function onLeftOpen(body: object, readAhead: () => void): void {
  leftOpen.set(body, readAhead)
}

/** The application will not read on, though it closes nothing: the rest is read ahead, and stays there for it. */
export function leaveOpen(body: object): void {
  leftOpen.get(body)?.()
}

/**
 * @param isCut whether the end that comes now is none of the provider's making
 * @param onEnd told when the body is over for whatever reason, once
 */
export function watchBody(
  body: Readable,
  exchange: Exchange,
  { isCut, onEnd }: { readonly isCut: () => boolean; readonly onEnd: () => void },
): BodyWatch {
  const { push } = body
  let state: 'open' | 'ahead' | 'detached' | 'over' = 'open'

  const release = () => {
    if (state === 'over') return
    state = 'over'
    idleBodies.forget(body)
    leftOpen.delete(body)
    restore()
    onEnd()
  }
  const readAhead = () => {
    if (state !== 'open' || exchange.isOver) return
    const stop = () => {
      if (state === 'ahead') state = 'open'
    }
    if (!exchange.readAhead({ abort: stop, resume: () => undefined })) {
      exchange.abandon()
      return
    }
    state = 'ahead'
    body._read(0)
  }
  const waiting = { leave: readAhead, abandon: () => exchange.abandon() }

  const restore = setOwn(body, 'push', (chunk, ...encoding) => {
    if (chunk === null) {
      const wasDetached = state === 'detached'
      const rest = isCut() ? exchange.fail() : exchange.complete()
      release()
      if (wasDetached) return false
      if (rest !== undefined) push.call(body, rest)
      return push.call(body, null)
    }
    const before = body.readableLength
    const visible = chunk instanceof Uint8Array ? exchange.data(chunk) : chunk
    if (state === 'detached' || visible === undefined) return true
    const hasRoom: unknown = Reflect.apply(push, body, [visible, ...encoding])
    if (hasRoom === true) return true
    if (state === 'ahead') return true
    if (!exchange.isOver) idleBodies.wait(body, before, waiting)
    return false
  })
  const watch: BodyWatch = {
    detach() {
      state = 'detached'
      idleBodies.forget(body)
    },
    readAhead,
    release,
  }
  leftOpen.set(body, readAhead)
  return watch
}
