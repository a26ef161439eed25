import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RatesFileError, readRatesFile } from './ecb-file.ts'

const XML = `<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01" xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
	<gesmes:subject>Reference rates</gesmes:subject>
	<gesmes:Sender>
		<gesmes:name>European Central Bank</gesmes:name>
	</gesmes:Sender>
	<Cube>
		<Cube time='2026-11-23'>
			<Cube currency='USD' rate='1.0905'/>
		</Cube>
		<Cube time='2026-11-20'>
			<Cube currency='USD' rate='1.0870'/>
			<Cube currency='JPY' rate='161.84'/>
		</Cube>
	</Cube>
</gesmes:Envelope>`

const RATES = [
  { day: '2026-11-23', currency: 'USD', unitsPerEur: '1.0905' },
  { day: '2026-11-20', currency: 'USD', unitsPerEur: '1.0870' },
  { day: '2026-11-20', currency: 'JPY', unitsPerEur: '161.84' },
]

describe("a file of the European Central Bank's rates", () => {
  it('is read as XML', () => {
    expect(readRatesFile(XML)).toEqual(RATES)
  })

  it('is read as CSV, with what was not published left out', () => {
    expect(readRatesFile('Date,USD,JPY,\r\n2026-11-23,1.0905,N/A,\r\n2026-11-20,1.0870,161.84,\r\n')).toEqual(
      RATES,
    )
    expect(readRatesFile('Date, USD, JPY, \n20 November 2026, 1.0870, 161.84, \n')).toEqual(RATES.slice(1))
  })

  const broken: readonly (readonly [string, string, string])[] = [
    ['an empty file', ' \n', 'line 1'],
    ['a ZIP archive', 'PK\u0003\u0004', 'line 1'],
    ['something else', 'hello', 'line 1'],
    ['a page', '<html><body/></html>', 'line 1'],
    ['XML that breaks off', XML.slice(0, -20), 'line 15'],
    ['entities', XML.replace('<gesmes:Envelope', '<!DOCTYPE x [<!ENTITY a "b">]><gesmes:Envelope'), 'line 1'],
    ['a day that is none', XML.replace('2026-11-20', '2026-11-31'), 'day "2026-11-31"'],
    ['a rate that is none', XML.replace('161.84', '161,84'), 'day 2026-11-20'],
    ['a rate of nothing', XML.replace('161.84', '0.00'), 'day 2026-11-20'],
    ['a negative rate', XML.replace('161.84', '-1'), 'day 2026-11-20'],
    ['a currency that is none', XML.replace('JPY', 'jpy'), 'day 2026-11-20'],
    ['a currency twice', XML.replace('JPY', 'USD'), 'day 2026-11-20'],
    ['no rates', 'Date,USD,\n', 'line 1'],
    ['a cell too few', 'Date,USD,JPY,\n2026-11-23,1.0905,1,\n2026-11-20,1.0870,\n', 'line 3'],
    ['a cell that is no rate', 'Date,USD,\n2026-11-23,1.0905,\n2026-11-20,x,\n', 'line 3'],
    ['a date that is none', 'Date,USD,\n20 Novembre 2026,1,\n', 'line 2'],
    ['a column twice', 'Date,USD,USD,\n2026-11-20,1,1,\n', 'line 1'],
  ]
  it.each(broken)('with %s is refused, and the place named', (_name, text, place) => {
    let error: unknown
    try {
      readRatesFile(text)
    } catch (thrown) {
      error = thrown
    }
    expect(error).toBeInstanceOf(RatesFileError)
    expect(error instanceof RatesFileError && error.issues[0]?.path).toBe(place)
  })

  it('is refused with a named place, never with anything else, whatever it holds', () => {
    const damaged = fc
      .tuple(fc.nat(XML.length), fc.nat(20), fc.string({ unit: 'binary', maxLength: 10 }))
      .map(([at, length, text]) => XML.slice(0, at) + text + XML.slice(at + length))
    fc.assert(
      fc.property(fc.oneof(damaged, fc.string()), (text) => {
        try {
          for (const { unitsPerEur } of readRatesFile(text)) expect(Number(unitsPerEur)).toBeGreaterThan(0)
        } catch (error) {
          if (!(error instanceof RatesFileError)) throw error
          expect(error.issues[0]?.path).not.toBe('')
        }
      }),
      { numRuns: 300 },
    )
  })
})
