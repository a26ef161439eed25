import { describe, expect, it } from 'vitest'
import { OutputText } from './output-text.ts'

const eventOf = (text: string) => `data: ${text}\n\n`

describe('the text of a stream', () => {
  it('is read only when it is asked for, while it is short', () => {
    let reads = 0
    const output = new OutputText((data, into) => {
      reads++
      into.add(data)
    })
    output.keep(eventOf('one'))
    output.keep(eventOf('two'))
    expect(output.kept).toEqual({ text: '', toolCalls: 0, events: 'data: one\n\ndata: two\n\n' })
    expect(reads).toBe(0)
    expect(output.toString()).toBe('onetwo')
    expect(output.kept).toEqual({ text: 'onetwo', toolCalls: 0, events: '' })
  })

  it('is read in small steps while it is long, and nothing of it twice', () => {
    let readAtOnce = 0
    let mostAtOnce = 0
    const output = new OutputText((data, into) => {
      readAtOnce += data.length
      into.addToolCall(data.slice(0, 1))
      into.add(data.slice(1))
    })
    const pieces = Array.from({ length: 2_000 }, (_, index) => `${index % 10}`.repeat(300))
    for (const piece of pieces) {
      readAtOnce = 0
      output.keep(eventOf(piece))
      mostAtOnce = Math.max(mostAtOnce, readAtOnce)
    }
    expect(mostAtOnce).toBeGreaterThan(0)
    expect(mostAtOnce).toBeLessThan(40_000)
    const { text, toolCalls, events } = output.kept
    expect(events.length).toBeLessThanOrEqual(256 * 1024)
    expect(text + events.replaceAll(/data: |\n/g, '')).toBe(pieces.join(''))
    expect(toolCalls).toBeLessThan(pieces.length)
    expect(output.toString()).toBe(pieces.join(''))
    expect(output.toolCalls).toBe(pieces.length)
  })
})
