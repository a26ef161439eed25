import type { ClientRequest, IncomingMessage } from 'node:http'
import type { Exchange } from './exchange.ts'
import { setOwn } from './own-method.ts'
import { watchBody } from './watched-body.ts'

/**
 * An answer of `node:http` that the application leaves. Whoever destroys the request or the answer destroys the
 * socket with it, and the rest of the answer is lost. To learn its usage, the socket lives on.
 *
 *   open       until the end, or until the connection breaks: both are Node's own doing, and are left to it.
 *   detached   the application destroyed the request (also by `abort`, a signal, a time limit of its own) or the
 *              answer (also by `break`): they tell it what they would have told it, in the same order, and
 *              nothing ever after; the socket leaves its agent, so that it is in nobody's way, and runs on until the
 *              end of the answer or a limit, and is destroyed then.
 *   over       the body has come to its end, or was cut off. Nothing of ours is left on either object.
 *
 * What the application is told follows Node's `_http_client.js` (`destroy`, `socketErrorListener`,
 * `socketCloseListener`) and `_http_incoming.js` (`_destroy`), read in versions 22.18 and 24.21.
 */
export function watchResponse(request: ClientRequest, response: IncomingMessage, exchange: Exchange): void {
  const { socket } = response
  const { emit } = request
  const destroyRequest = request.destroy
  const destroyResponse = response._destroy
  let isDetached = false

  const body = watchBody(response, exchange, {
    isCut: () => !response.complete,
    onEnd() {
      if (isDetached) {
        // After Node is through with the message that has just ended.
        process.nextTick(() => socket.destroy())
        return
      }
      restoreRequest()
      restoreResponse()
    },
  })

  /** @returns false when there is nothing to read on for, and Node shall do as it always does */
  const detach = (): boolean => {
    const isGone = socket.destroyed || response.complete || exchange.isOver
    // A request that is still being sent would wait for the application.
    const mayRunOn = !isGone && request.writableFinished
    if (!mayRunOn || !exchange.leave({ abort: () => void socket.destroy(), resume: () => undefined })) {
      exchange.fail()
      body.release()
      return false
    }
    isDetached = true
    body.detach()
    setOwn(request, 'emit', (...args) => {
      const [name] = args
      return typeof name === 'string' && OF_TRANSPORT.has(name) ? false : Reflect.apply(emit, request, args)
    })
    socket.once('close', () => {
      exchange.fail()
      body.release()
    })
    socket.emit('agentRemove')
    return true
  }
  const tell = (name: string, ...args: readonly unknown[]) => Reflect.apply(emit, request, [name, ...args])
  const close = () => {
    Reflect.set(request, '_closed', true)
    tell('close')
  }

  const restoreRequest = setOwn(request, 'destroy', (...args) => {
    const [error] = args
    if (request.destroyed || isDetached) {
      request.destroyed = true
      return request
    }
    if (!detach()) return Reflect.apply(destroyRequest, request, args)
    request.destroyed = true
    response.removeAllListeners('data')
    response.resume()
    process.nextTick(() => {
      if (error) tell('error', error)
      response.destroy(Object.assign(new Error('aborted'), { code: 'ECONNRESET' }))
      close()
    })
    return request
  })
  const restoreResponse = setOwn(response, '_destroy', (...args) => {
    const [error, callback] = args
    const isOwn = isDetached
    if (!isOwn && !detach()) return Reflect.apply(destroyResponse, response, args)
    response.aborted = true
    response.emit('aborted')
    // Now, because the application's own reading of it is over; the socket may have been waiting for that.
    response._read(0)
    process.nextTick(() => {
      if (!isOwn) request.destroyed = true
      if (!isOwn && error) tell('error', error)
      // Without a listener the error is not told: Node is lenient here.
      const told = response.listenerCount('error') === 0 ? [] : [error]
      if (typeof callback === 'function') Reflect.apply(callback, undefined, told)
      // The answer is closed first.
      if (!isOwn) process.nextTick(close)
    })
    return undefined
  })
}

/** What the socket still causes on a request that has been told its end. */
const OF_TRANSPORT: ReadonlySet<string> = new Set(['error', 'close', 'timeout'])
