import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decimal } from '../money/decimal.ts'
import { attributeGpuTime, type GpuCall } from './attribution.ts'
import { costPerMillionTokens } from './cost-per-million.ts'
import { handOut } from './hand-out.ts'
import { measureGpuTime } from './measured-time.ts'

const START = Date.UTC(2026, 10, 24, 12, 0, 0)
const MINUTE = { startMs: START, endMs: START + 60_000 }
const sum = (parts: readonly bigint[]) => parts.reduce((total, part) => total + part, 0n)

const call = (fields: Partial<GpuCall> = {}): GpuCall => ({
  key: 'acme',
  startMs: START,
  durationMs: 10_000,
  inputTokens: 0,
  cacheReadTokens: 0,
  outputTokens: 100,
  ...fields,
})

describe('handing out', () => {
  const weights = fc.array(fc.bigInt(0n, 10n ** 30n), { minLength: 1, maxLength: 30 })

  it('never creates or loses a unit, and no part is a unit away from its share', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 10n ** 15n), weights, (whole, all) => {
        fc.pre(sum(all) > 0n)
        const parts = handOut(whole, all)
        expect(sum(parts)).toBe(whole)
        const total = sum(all)
        parts.forEach((part, index) => {
          const off = part * total - whole * (all[index] ?? 0n)
          expect(off < total && -off < total).toBe(true)
        })
      }),
    )
  })

  it.each([
    ['thirds: the earliest gets the rest', 100n, [1n, 1n, 1n], [34n, 33n, 33n]],
    ['the one that lost most gets the rest', 10n, [1n, 2n, 4n], [1n, 3n, 6n]],
    ['nothing for no weight', 7n, [0n, 3n], [0n, 7n]],
    ['nothing to hand out', 0n, [0n, 0n], [0n, 0n]],
  ])('%s', (_name, whole, all, expected) => {
    expect(handOut(whole, all)).toEqual(expected)
  })

  it('refuses what would be lost or invented', () => {
    expect(() => handOut(1n, [])).toThrow(RangeError)
    expect(() => handOut(1n, [0n])).toThrow('nobody has a weight')
    expect(() => handOut(-1n, [1n])).toThrow('-1')
    expect(() => handOut(1n, [2n, -3n])).toThrow('-3')
  })
})

describe('whose calls a GPU was busy with', () => {
  const shares = (busyUs: bigint, ...calls: GpuCall[]) =>
    Object.fromEntries(attributeGpuTime(MINUTE, busyUs, calls).shares.map(({ key, busyUs }) => [key, busyUs]))

  it('tokens decide between calls of the same time', () => {
    expect(shares(1_000n, call(), call({ key: 'globex', outputTokens: 300 }))).toEqual({
      acme: 250n,
      globex: 750n,
    })
  })

  it('a call weighs only with the part of its time that lies in the interval', () => {
    const half = call({ key: 'globex', startMs: START - 5_000 })
    expect(shares(900n, call(), half)).toEqual({ acme: 600n, globex: 300n })
    expect(shares(900n, call(), call({ key: 'globex', startMs: START - 10_000 }))).toEqual({ acme: 900n })
    expect(shares(900n, call(), call({ key: 'globex', startMs: MINUTE.endMs }))).toEqual({ acme: 900n })
  })

  it('an output token weighs as four of input, a cached one as a tenth', () => {
    const input = call({ key: 'input', inputTokens: 400, outputTokens: 0 })
    const cached = call({ key: 'cached', inputTokens: 4000, cacheReadTokens: 4000, outputTokens: 0 })
    expect(shares(300n, call({ key: 'output' }), input, cached)).toEqual({
      output: 100n,
      input: 100n,
      cached: 100n,
    })
  })

  it('input weighs before the first token, output after it', () => {
    const across = call({
      startMs: START - 2_000,
      durationMs: 12_000,
      timeToFirstTokenMs: 2_000,
      inputTokens: 1_000_000,
    })
    expect(shares(200n, across, call({ key: 'globex' }))).toEqual({ acme: 100n, globex: 100n })
  })

  it('a call of no known length weighs where it began', () => {
    const point = call({ key: 'globex', durationMs: 0 })
    expect(shares(200n, call(), point)).toEqual({ acme: 100n, globex: 100n })
    expect(shares(200n, call(), { ...point, startMs: MINUTE.endMs })).toEqual({ acme: 200n })
  })

  it('without a call that has tokens, busy time is nobody’s', () => {
    expect(attributeGpuTime(MINUTE, 77n, [])).toEqual({ shares: [], unattributedUs: 77n })
    const failed = call({ outputTokens: 0 })
    expect(attributeGpuTime(MINUTE, 77n, [failed])).toEqual({ shares: [], unattributedUs: 77n })
  })

  const anyCall: fc.Arbitrary<GpuCall> = fc
    .record({
      key: fc.constantFrom('a', 'b', 'c', 'd'),
      startMs: fc.integer({ min: START - 120_000, max: START + 70_000 }),
      durationMs: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 200_000, noNaN: true })),
      timeToFirstTokenMs: fc.option(fc.double({ min: 0, max: 250_000, noNaN: true }), { nil: undefined }),
      inputTokens: fc.nat(1_000_000),
      outputTokens: fc.nat(100_000),
      cached: fc.nat(100),
    })
    .map(({ cached, ...rest }) => ({
      ...rest,
      cacheReadTokens: Math.floor((rest.inputTokens * cached) / 100),
    }))

  it('for any calls the shares and the rest are the busy time, in any order of the calls', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 10n ** 12n), fc.array(anyCall, { maxLength: 20 }), (busyUs, calls) => {
        const found = attributeGpuTime(MINUTE, busyUs, calls)
        expect(sum(found.shares.map((share) => share.busyUs)) + found.unattributedUs).toBe(busyUs)
        for (const share of found.shares) expect(share.busyUs > 0n).toBe(true)
        expect(attributeGpuTime(MINUTE, busyUs, calls.toReversed())).toEqual(found)
      }),
    )
  })
})

describe('measured time', () => {
  const every = (stepMs: number, busyPpm: number, count: number, fromMs = START) =>
    Array.from({ length: count }, (_, index) => ({ atMs: fromMs + index * stepMs, busyPpm }))

  it('samples cover the interval whatever their phase', () => {
    const samples = every(15_000, 250_000, 7, START - 8_000)
    expect(measureGpuTime(MINUTE, samples)).toEqual({
      busyUs: 15_000_000n,
      idleUs: 45_000_000n,
      unknownUs: 0n,
    })
  })

  it('a sample says what was before it', () => {
    const samples = [
      { atMs: START, busyPpm: 1_000_000 },
      { atMs: START + 30_000, busyPpm: 0 },
      { atMs: START + 60_000, busyPpm: 500_000 },
    ]
    expect(measureGpuTime(MINUTE, samples)).toEqual({
      busyUs: 15_000_000n,
      idleUs: 45_000_000n,
      unknownUs: 0n,
    })
  })

  it('a gap is unknown, but for the scrape interval before the sample that ends it', () => {
    const samples = [
      { atMs: START, busyPpm: 0 },
      { atMs: START + 50_000, busyPpm: 1_000_000 },
    ]
    expect(measureGpuTime(MINUTE, samples)).toEqual({
      busyUs: 15_000_000n,
      idleUs: 0n,
      unknownUs: 45_000_000n,
    })
  })

  it('without a sample all is unknown', () => {
    expect(measureGpuTime(MINUTE, [])).toEqual({ busyUs: 0n, idleUs: 0n, unknownUs: 60_000_000n })
    const before = [{ atMs: START, busyPpm: 500_000 }]
    expect(measureGpuTime(MINUTE, before).unknownUs).toBe(60_000_000n)
  })

  const samples = fc
    .array(fc.record({ stepMs: fc.integer({ min: 1, max: 60_000 }), busyPpm: fc.nat(1_000_000) }), {
      maxLength: 20,
    })
    .map((steps) => {
      let atMs = START - 70_000
      return steps.map(({ stepMs, busyPpm }) => {
        atMs += stepMs
        return { atMs, busyPpm }
      })
    })

  it('busy, idle and unknown are the interval, and none is negative', () => {
    fc.assert(
      fc.property(samples, (all) => {
        const { busyUs, idleUs, unknownUs } = measureGpuTime(MINUTE, all)
        expect(busyUs + idleUs + unknownUs).toBe(60_000_000n)
        for (const part of [busyUs, idleUs, unknownUs]) expect(part >= 0n).toBe(true)
      }),
    )
  })

  it('what lies in two intervals is measured as long as in one', () => {
    fc.assert(
      fc.property(samples, fc.integer({ min: 1, max: 59_999 }), (all, cutMs) => {
        const unknown = (startMs: number, endMs: number) => measureGpuTime({ startMs, endMs }, all).unknownUs
        expect(unknown(START, START + cutMs) + unknown(START + cutMs, MINUTE.endMs)).toBe(
          measureGpuTime(MINUTE, all).unknownUs,
        )
      }),
    )
  })
})

describe('the cost of a million tokens', () => {
  it.each([
    ['2', 1_000_000n, '2'],
    ['0.5', 4_000_000n, '0.125'],
    ['1', 3_000_000n, '0.333333333333'],
    ['2', 3_000_000n, '0.666666666667'],
    ['0.0000000000005', 1_000_000n, '0'],
    ['0.0000000000015', 1_000_000n, '0.000000000002'],
    ['0', 5n, '0'],
    ['120', 1n, '120000000'],
  ])('%s for %s tokens is %s', (cost, tokens, expected) => {
    expect(costPerMillionTokens(decimal(cost), tokens)).toBe(expected)
  })

  it('does not exist without tokens', () => {
    expect(costPerMillionTokens(decimal('1'), 0n)).toBeUndefined()
  })
})
