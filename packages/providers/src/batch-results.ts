import { isBatchLine, settledOf, unreadResult } from './batch-line.ts'
import { NdjsonParser } from './framing/ndjson.ts'
import { textOfBytes } from './plain-body.ts'
import {
  NO_BYTES,
  parseJsonObject,
  type ReaderRequest,
  type ReadUsage,
  type SettledUsage,
  type UsageReader,
} from './reader.ts'

/**
 * The results of a batch as they are fetched, one JSON text a line: each line is a call that was made, and is
 * billed at half the price. States: `unknown` until a line was read; `batch`, in which every line that ends is
 * read and handed on, so that a file of any size takes the memory of a line; `other`, a file that is no batch's
 * results, whose bytes pass unread.
 */
export function readBatchResults(request: ReaderRequest): UsageReader {
  const resultsId = request.resultsId ?? ''
  const lines = new NdjsonParser()
  let state: 'unknown' | 'batch' | 'other' = 'unknown'
  let index = 0
  let settled: SettledUsage[] = []
  /** Places of lines that were too long to be read before one said what the file is. */
  let unread: number[] = []

  const readLine = (bytes: Uint8Array) => {
    const place = { resultsId, index: index++ }
    if (bytes.length === 0) {
      if (state === 'batch') settled.push(unreadResult(place))
      else if (unread.length < UNREAD_MAX) unread.push(place.index)
      return
    }
    const line = parseJsonObject(textOfBytes(bytes))
    if (state === 'unknown') {
      state = line !== undefined && isBatchLine(line) ? 'batch' : 'other'
      if (state === 'batch') settled = unread.map((at) => unreadResult({ resultsId, index: at }))
      unread = []
    }
    const usage = line !== undefined && state === 'batch' ? settledOf(line, place) : undefined
    if (usage !== undefined) settled.push(usage)
  }

  return {
    requestedModel: undefined,
    rewrittenBody: undefined,
    promptText: () => '',
    respond(status) {
      // A part of a file may begin in the middle of a line, and its lines have no number.
      if (status !== 200) state = 'other'
    },
    push(bytes) {
      if (state === 'unknown' && index === 0 && !mayBeObject(bytes)) state = 'other'
      if (state !== 'other') for (const line of lines.push(bytes)) readLine(line)
      return bytes
    },
    end() {
      const last = state === 'other' ? undefined : lines.end()
      if (last !== undefined) readLine(last)
      return NO_BYTES
    },
    takeSettled() {
      const taken = settled
      if (taken.length > 0) settled = []
      return taken
    },
    result: (): ReadUsage => ({ isComplete: true, isStreamed: false }),
    outputText: () => '',
  }

  /** Whether the first bytes of all may begin an object. */
  function mayBeObject(bytes: Uint8Array): boolean {
    if (lines.isHolding) return true
    const first = bytes.find((byte) => !WHITE.has(byte))
    return first === undefined || first === 0x7b
  }
}

/** White space, and the bytes of a byte order mark. */
const WHITE: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d, 0xef, 0xbb, 0xbf])

const UNREAD_MAX = 1_000
