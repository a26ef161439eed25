import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkRuleFile, parseRules } from '../index.ts'

function check(source: string) {
  const { entries, issues } = parseRules(source)
  return checkRuleFile(entries, issues)
}
const issuesOf = (source: string) =>
  check(source).issues.map(({ line, column, message }) => `${line}:${column} ${message}`)

describe('a rule file', () => {
  it('is blocks of keys and values', () => {
    const { rules, issues } = check(`
      # Everybody
      rule "base" { markup = 0.20 }   // 20 % more
      rule "acme-gpt" {
        provider = "openai", model = "gpt-4o*"
        customer = "Acme \\"A\\" \\u00e9" feature = "chat"
        tag.plan = "pro"  tag."cost.center" = "7"
        price.input_tokens = 3.00 per 1000000
        price.web_search_requests = 12 per 1_000
        minimum = 0.001
        effective_date = "2026-12-01" until = "2027-01-01T00:00:00+01:00"
      }
      rule "flat"{price_per_request=0.01 customer="b"}rule "cheap"{discount=0.123456789012345678 customer="c"}`)
    expect(issues).toEqual([])
    expect(rules).toEqual([
      { id: 'base', markup: '0.2' },
      {
        id: 'acme-gpt',
        provider: 'openai',
        model: 'gpt-4o*',
        customer: 'Acme "A" é',
        feature: 'chat',
        tags: { plan: 'pro', 'cost.center': '7' },
        prices: {
          input_tokens: { price: '3', per: 1_000_000 },
          web_search_requests: { price: '12', per: 1000 },
        },
        minimum: '0.001',
        effective_date: '2026-12-01',
        until: '2027-01-01T00:00:00+01:00',
      },
      { id: 'flat', price_per_request: '0.01', customer: 'b' },
      { id: 'cheap', discount: '0.123456789012345678', customer: 'c' },
    ])
  })

  it.each<[string, string, readonly string[]]>([
    [
      'a typo in a key',
      'rule "a" { markdown = 1\n mrkup = 2 minimum = 1 }',
      [
        expect.stringMatching(/^1:12 unknown key markdown \(keys: provider, /),
        expect.stringMatching(/^2:2 unknown key mrkup; did you mean markup\?/),
      ],
    ],
    [
      'a typo in rule',
      'ruel "a" { markup = 1 }\nrule "b" { markup = 1 }',
      ['1:1 expected rule "id" { … }, found ruel; did you mean rule?'],
    ],
    ['per cent', 'rule "a" { markup = 20% minimum = 1 }', ['1:23 there is no %: write 0.20 for 20 %']],
    [
      'a date without quotes',
      'rule "a" { markup = 1 until = 2026-12-01 }',
      ['1:31 2026-12-01 is no number; a date stands in quotes: "2026-12-01"'],
    ],
    [
      'text for a number',
      'rule "a" { minimum = 1 markup = "0.2" }',
      ['1:33 markup must be a number without quotes, found the text "0.2"'],
    ],
    [
      'a number for text',
      'rule "a" { minimum = 1 customer = 7 }',
      ['1:35 customer must be text in "…", found 7'],
    ],
    ['a key twice', 'rule "a" { markup = 1\nmarkup = 2 }', ['2:1 markup stands twice, first in line 1']],
    [
      'a rule twice',
      'rule "a" { markup = 1 }\nrule "a" { minimum = 1 customer = "x" }',
      ['2:6 the rule "a" is there already, in line 1'],
    ],
    [
      'no brace',
      'rule "a" { markup = 1\nrule "b" { minimum = 2 customer = "x" }',
      ['2:1 expected } at the end of rule "a", begun in line 1'],
    ],
    [
      'the end in a rule',
      'rule "a" { markup = 1',
      ['1:22 expected } at the end of rule "a", begun in line 1'],
    ],
    ['open text', 'rule "a" { markup = 1 customer = "x\n}', ['1:34 text is not closed with " in its line']],
    [
      'an unknown escape',
      'rule "a" { markup = 1 customer = "\\q" }',
      ['1:35 unknown escape \\q; known: \\" \\\\ \\n \\t \\uXXXX'],
    ],
    ['apostrophes', 'rule "a" { markup = 1 customer = \'x\' }', [`1:34 text stands in "…", not in '…'`]],
    [
      'a price without units',
      'rule "a" { minimum = 1 price.input_tokens = 3 }',
      ['1:45 price.input_tokens must say for how many units it is: 3 per 1000000'],
    ],
    [
      'a price of odd units',
      'rule "a" { price.input_tokens = 3 per 7 }',
      ['1:12 prices.input_tokens.per must be 1, 1000 or 1000000'],
    ],
    [
      'units of a markup',
      'rule "a" { minimum = 1 markup = 3 per 7 }',
      ['1:39 markup takes no per: only price.METER does'],
    ],
    [
      'a negative markup',
      'rule "a" { markup = -0.2 }',
      ['1:12 markup must not be negative: a price below the list is a `discount`'],
    ],
    [
      'nothing to do',
      'rule "a" { customer = "x" }',
      [
        '1:1 markup is missing: a rule needs one of markup, discount, prices, price_per_request, or a minimum',
      ],
    ],
    [
      'a tie',
      'rule "a" { markup = 1 customer = "x" }\nrule "b" { minimum = 1 customer = "x" }',
      [
        '2:1 rule "b" would tie with the rule "a": both are equally specific and can match the same event; make one of them more specific',
      ],
    ],
  ])('%s is named with line and column', (_, source, expected) => {
    expect(issuesOf(source)).toEqual(expected)
  })

  it('tells all problems at once, in order', () => {
    const lines = issuesOf('rule "a" { markup = -1 }\nx\nrule "b b" { discount = 2 until = "soon" }').map(
      (issue) => issue.split(' ')[0],
    )
    expect(lines).toEqual(['1:12', '2:1', '3:6', '3:14', '3:27'])
  })

  it('whose rules follow each other in time has no tie', () => {
    const source = (from: string) =>
      `rule "a" { markup = 1 until = "2027-01-01" }\nrule "b" { markup = 2 effective_date = "${from}" }`
    expect(issuesOf(source('2027-01-01'))).toEqual([])
    expect(issuesOf(source('2026-12-31'))).toHaveLength(1)
  })
})

describe('for any text', () => {
  const piece = fc.constantFrom(
    'rule',
    '"a"',
    '"',
    '{',
    '}',
    '=',
    '.',
    ',',
    'per',
    '1000',
    '0.2',
    '-',
    '%',
    'markup',
    'price',
    'tag',
    '\\',
    '#',
    '//',
    '\n',
    ' ',
    '2026-01-01',
    '__proto__',
    '\u{1f600}',
    '\0',
  )
  const noise = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(piece, { maxLength: 60 }).map((all) => all.join(' ')),
  )

  it('reading ends, does not throw, and every problem has a place in the file', () => {
    fc.assert(
      fc.property(noise, (source) => {
        const lines = source.split('\n')
        const { issues, rules } = check(source)
        for (const { line, column, message } of issues) {
          expect(message).not.toBe('')
          expect(line).toBeGreaterThanOrEqual(1)
          expect(line).toBeLessThanOrEqual(lines.length)
          expect(column).toBeGreaterThanOrEqual(1)
          expect(column).toBeLessThanOrEqual((lines[line - 1]?.length ?? 0) + 1)
        }
        if (source.trim() !== '' && issues.length === 0 && !/^\s*(#|\/\/|\uFEFF)/.test(source)) {
          expect(rules.length).toBeGreaterThan(0)
        }
      }),
      { numRuns: 1000 },
    )
  })

  it('long nonsense is read in one pass', () => {
    for (const part of ['rule "a" {', '"', '\\', '{', 'x.', '=', 'markup = ', '1-'])
      check(part.repeat(20_000))
  })
})
