import { parse } from 'csv-parse/sync'
import { getDocument } from 'pdfjs-dist/legacy/build/pdf.mjs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, createKey, problemOf } from './api-client.ts'
import { insertInvoice, usageLine } from './invoices.ts'

/** Invoices as documents for those who pay them. */

let clockMs = Date.parse('2026-11-01T12:00:00Z')
let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, now: () => new Date(clockMs) })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

const SETTINGS = '/api/v1/invoicing-settings'
const OCTOBER = { customer: 'acme', start: '2026-10-01', end: '2026-11-01' }

const pdfOf = (id: string) => call(service, `/api/v1/invoices/${id}.pdf`)

/** The text of each page, its pieces in the order drawn. */
async function pagesOf(bytes: Buffer): Promise<readonly string[]> {
  const loading = getDocument({ data: new Uint8Array(bytes), verbosity: 0 })
  const file = await loading.promise
  const pages: string[] = []
  for (let number = 1; number <= file.numPages; number++) {
    const { items } = await (await file.getPage(number)).getTextContent()
    pages.push(items.map((item) => ('str' in item ? item.str : '')).join(' '))
  }
  await loading.destroy()
  return pages.map((text) => text.replaceAll(/\s+/g, ' '))
}

describe('GET /api/v1/invoices/{id}.pdf', () => {
  it('shows who, to whom, the lines with their rates, and the total', async () => {
    const id = await insertInvoice(database.pool, {
      ...OCTOBER,
      status: 'open',
      number: 'INV-2026-000001',
      total: '1234.5',
      notes: ['3 events have no price.'],
      profile: {
        name: 'Żółw Łódź Ελλάς Київ',
        address: ['ul. Piotrkowska 104'],
        currency: 'EUR',
        timezone: 'Europe/Paris',
      },
      lines: [
        usageLine(1, 'claude-sonnet-4-5, 7 calls', '1334.5', {
          quantity: '1204567',
          conversions: [
            {
              soldIn: 'EUR',
              rate: '0.9211',
              rateDate: '2026-10-14',
              sellCostUsd: '1448.81',
              amount: '1334.498891',
            },
          ],
        }),
        usageLine(2, 'gpt-4o, 1 call', '0.01', { isLate: true }),
        usageLine(3, 'Included usage', '-100.01', { kind: 'allowance', quantity: '0' }),
      ],
    })
    const answer = await pdfOf(id)
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/pdf'])
    expect(answer.headers.get('content-disposition')).toBe('inline; filename="INV-2026-000001.pdf"')
    const pages = await pagesOf(answer.bytes)
    expect(pages).toHaveLength(1)
    for (const text of [
      'INV-2026-000001',
      'Żółw Łódź Ελλάς Київ',
      'ul. Piotrkowska 104',
      'Issued 2 Nov 2026',
      'Due 2 Dec 2026',
      'Period 1 Oct 2026 – 1 Nov 2026',
      'claude-sonnet-4-5, 7 calls',
      '1,204,567',
      '€1,334.50',
      'USD 1,448.81 at 0.9211 EUR, rate of 2026-10-14',
      'Late usage of an earlier period',
      '−€100.01',
      'Total €1,234.50',
      '3 events have no price.',
      'Page 1 of 1',
    ]) {
      expect(pages[0]).toContain(text)
    }
    expect(pages[0]).not.toContain('123.456')
    expect(pages[0]).not.toMatch(/DRAFT|VOID/)
  })

  it('is the same file whenever it is asked for', async () => {
    const id = await insertInvoice(database.pool, {
      ...OCTOBER,
      customer: 'same',
      lines: [usageLine(1, 'a', '1')],
    })
    const [first, second] = [await pdfOf(id), await pdfOf(id)]
    expect(first.bytes.equals(second.bytes)).toBe(true)
  })

  it('goes on over pages, each with the heads of the columns, and loses no line', async () => {
    const lines = Array.from({ length: 150 }, (_, index) => usageLine(index + 1, `line-${index + 1}.`, '1'))
    const id = await insertInvoice(database.pool, { ...OCTOBER, customer: 'long', lines, total: '150' })
    const pages = await pagesOf((await pdfOf(id)).bytes)
    expect(pages.length).toBeGreaterThan(3)
    for (const [index, page] of pages.entries()) {
      expect(page).toContain('DESCRIPTION TOKENS AMOUNT (USD)')
      expect(page).toContain(`Page ${index + 1} of ${pages.length}`)
      expect(page).toContain('DRAFT')
    }
    const text = pages.join(' ')
    expect(lines.filter(({ description }) => !text.includes(`${description} `))).toEqual([])
    expect(pages.at(-1)).toContain('Total $150.00')
  })

  it('keeps lines with the longest names above the foot of the page', async () => {
    const lines = [1, 2, 3].map((lineNo) => usageLine(lineNo, `${'名'.repeat(2_500)} end-${lineNo}`, '1'))
    const id = await insertInvoice(database.pool, { ...OCTOBER, customer: 'long names', lines, total: '3' })
    const text = (await pagesOf((await pdfOf(id)).bytes)).join(' ')
    expect(text.match(/名\s*…/g)).toHaveLength(3)
    expect(text).toContain('Total $3.00')
    expect(text).not.toContain('end-1')
  })

  it('marks what is void', async () => {
    const id = await insertInvoice(database.pool, {
      ...OCTOBER,
      customer: 'void',
      status: 'void',
      number: 'INV-2026-000002',
    })
    expect(await pagesOf((await pdfOf(id)).bytes)).toEqual([expect.stringMatching(/VOID.*Voided 5 Nov 2026/)])
  })

  it.each([
    ['株式会社テスト', '株式会社テスト'],
    ['深圳市腾讯有限公司', '深圳市腾讯有限公司'],
    ['주식회사 테스트', '주식회사 테스트'],
    // Decomposed, as some systems send it.
    ['Zu\u0308rich', 'Z\u00fcrich'],
    ['ACME \u{1f680}', 'ACME ?'],
  ])('shows the name %s', async (name, shown) => {
    const id = await insertInvoice(database.pool, {
      ...OCTOBER,
      customer: `named ${name}`,
      profile: { name },
    })
    const [page = ''] = await pagesOf((await pdfOf(id)).bytes)
    expect(page.replaceAll(' ', '')).toContain(shown.replaceAll(' ', ''))
  })

  it('shows amounts of currencies without fractions, and large ones, to the last digit', async () => {
    const total = '90071992547409931'
    const id = await insertInvoice(database.pool, {
      ...OCTOBER,
      customer: 'yen',
      total,
      profile: { currency: 'JPY' },
      lines: [usageLine(1, 'all', total)],
    })
    expect(await pagesOf((await pdfOf(id)).bytes)).toEqual([
      expect.stringContaining('Total ¥90,071,992,547,409,931'),
    ])
  })

  it("is another organization's secret, and nothing where there is no invoice", async () => {
    problemOf(await pdfOf('00000000-0000-4000-8000-000000000000'), 404)
    const { key } = await createKey(service, ['ingest'])
    const id = await insertInvoice(database.pool, { ...OCTOBER, customer: 'scoped' })
    problemOf(await call(service, `/api/v1/invoices/${id}.pdf`, { key }), 403)
  })
})

describe('GET /api/v1/invoices/{id}.csv', () => {
  it('has a row for each line, quoted, and guarded against formulas', async () => {
    const id = await insertInvoice(database.pool, {
      ...OCTOBER,
      customer: 'spreadsheet',
      profile: { lines_by: ['feature', 'model'] },
      lines: [
        usageLine(1, '=HYPERLINK("http://evil") · m, 2 calls', '5.00', {
          keys: { feature: '=HYPERLINK("http://evil")', model: 'm,1' },
        }),
        usageLine(2, 'Discount of 10 %', '-0.50', { kind: 'discount', events: 0, quantity: '0' }),
      ],
    })
    const answer = await call(service, `/api/v1/invoices/${id}.csv`)
    expect(answer.headers.get('content-disposition')).toBe(
      'attachment; filename="draft-spreadsheet-2026-10-01.csv"',
    )
    expect(answer.text.endsWith('\r\n')).toBe(true)
    expect(parse(answer.text, { columns: true })).toMatchObject([
      {
        line_no: '1',
        kind: 'usage',
        feature: '\'=HYPERLINK("http://evil")',
        model: 'm,1',
        provider: '',
        amount: '5.00',
        currency: 'USD',
      },
      { line_no: '2', kind: 'discount', amount: '-0.50' },
    ])
  })
})

describe('GET /api/v1/invoices/{id}.json', () => {
  it('has what the other documents have, and no list costs', async () => {
    const id = await insertInvoice(database.pool, {
      ...OCTOBER,
      customer: 'json',
      number: 'INV-2026-000003',
      status: 'open',
      total: '5',
      lines: [usageLine(1, 'm', '5')],
    })
    const answer = await call(service, `/api/v1/invoices/${id}.json`)
    expect(answer.json).toMatchObject({
      id,
      number: 'INV-2026-000003',
      status: 'open',
      customer: { customer_id: 'json', name: 'json' },
      period: { start: '2026-10-01T00:00:00.000Z', end: '2026-11-01T00:00:00.000Z', timezone: 'UTC' },
      lines: [{ line_no: 1, amount: '5' }],
      total: '5',
      credited: '0',
    })
    expect(answer.text).not.toContain('123.456')
  })
})

describe('PUT /api/v1/invoicing-settings', () => {
  it('shows on drafts and on invoices that come after it, and leaves finalized ones as they are', async () => {
    const set = (name: string) =>
      call(service, SETTINGS, { method: 'PUT', body: { name, footer: [`${name} bank`] } })
    expect((await call(service, SETTINGS)).json).toMatchObject({ name: 'default', address: [] })
    expect((await set('First GmbH')).json).toMatchObject({ name: 'First GmbH', footer: ['First GmbH bank'] })
    const issued = await insertInvoice(database.pool, {
      ...OCTOBER,
      customer: 'seller',
      status: 'open',
      number: 'INV-2026-000004',
    })
    const draft = await insertInvoice(database.pool, { ...OCTOBER, customer: 'seller 2' })
    clockMs = Date.parse('2026-11-20T12:00:00Z')
    await set('Second GmbH')

    const textOf = async (id: string) => (await pagesOf((await pdfOf(id)).bytes)).join(' ')
    expect(await textOf(issued)).toMatch(/First GmbH.*First GmbH bank/)
    expect(await textOf(draft)).toMatch(/Second GmbH.*Second GmbH bank/)
  })

  it('shows the first settings on what was issued before there were any', async () => {
    const other = await createTestDatabase()
    const later = await startService({ databaseUrl: other.url, now: () => new Date('2026-12-01T00:00:00Z') })
    const id = await insertInvoice(other.pool, { ...OCTOBER, status: 'open', number: 'INV-2026-000001' })
    await call(later, SETTINGS, { method: 'PUT', body: { name: 'Only GmbH' } })
    const pages = await pagesOf((await call(later, `/api/v1/invoices/${id}.pdf`)).bytes)
    expect(pages[0]).toContain('Only GmbH')
    await later.stop()
    await other.drop()
  })

  it('needs the scope admin, and lines that are lines', async () => {
    const { key } = await createKey(service, ['write'])
    problemOf(await call(service, SETTINGS, { method: 'PUT', body: { name: 'x' }, key }), 403)
    problemOf(await call(service, SETTINGS, { method: 'PUT', body: { footer: ['a\nb'] } }), 400)
  })
})
