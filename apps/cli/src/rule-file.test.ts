import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type RuleFormat, readRuleFile, ruleFormatOf } from './rule-file.ts'

const RULES = `
rule "base" { markup = 0.20 }
rule "acme" {
  customer = "acme" model = "gpt-4o*" tag.plan = "pro"
  price.input_tokens = 3.000000000000000001 per 1000000
  minimum = 0.001
  effective_date = "2026-12-01"
}`

const YAML = `
rules:
  - id: base
    markup: 0.20   # 20 % more
  - id: acme
    customer: acme
    model: gpt-4o*
    tags: { plan: pro }
    prices:
      input_tokens: { price: 3.000000000000000001, per: 1000000 }
    minimum: 0.001
    effective_date: 2026-12-01
`

const JSON_TEXT = `{
\t"rules": [
\t\t{"id": "base", "markup": 0.20},
\t\t{"id": "acme", "customer": "acme", "model": "gpt-4o*", "tags": {"plan": "pro"},
\t\t "prices": {"input_tokens": {"price": "3.000000000000000001", "per": 1000000}},
\t\t "minimum": 0.001, "effective_date": "2026-12-01"}
\t]
}`

const issuesOf = (source: string, format: RuleFormat) =>
  readRuleFile(source, format).issues.map(({ line, column, message }) => `${line}:${column} ${message}`)

describe('a rule file', () => {
  it('says the same in all its forms, to the last digit', () => {
    const rules = readRuleFile(RULES, 'rules')
    expect(rules.issues).toEqual([])
    expect(rules.rules[1]?.prices).toEqual({
      input_tokens: { price: '3.000000000000000001', per: 1_000_000 },
    })
    for (const [source, format] of [
      [YAML, 'yaml'],
      [JSON_TEXT, 'json'],
    ] as const) {
      const file = readRuleFile(source, format)
      expect(file.issues).toEqual([])
      expect(file.rules).toEqual(rules.rules)
      expect(file.drafts).toEqual(rules.drafts)
    }
  })

  it.each<[string, string, RuleFormat, readonly string[]]>([
    [
      'a wrong field in YAML',
      'rules:\n  - id: a\n    markup: -1\n    tags:\n      plan: 7\n    mrkup: 1\n',
      'yaml',
      ['3:5 markup must not be negative: a price below the list is a `discount`', '6:5 mrkup unknown field'],
    ],
    [
      'a price without units',
      'rules:\n- id: a\n  prices:\n    x:\n      price: 1\n',
      'yaml',
      ['4:5 prices.x.per must be 1, 1000 or 1000000'],
    ],
    ['a list', '- id: a\n', 'yaml', ['1:1 expected rules: and a list of rules']],
    [
      'another key',
      'rule:\n- id: a\n',
      'yaml',
      ['1:1 unknown key rule; a rule file has the key rules', '1:1 expected rules: and a list of rules'],
    ],
    ['no rule', 'rules:\n- 7\n', 'yaml', ['2:3 a rule must be a map of fields']],
    [
      'an alias',
      'rules:\n- id: &a x\n  markup: 1\n  customer: *a\n',
      'yaml',
      ['4:3 customer must be text', '4:13 aliases are not taken: write the value'],
    ],
    [
      'a tie',
      'rules:\n- {id: a, markup: 1}\n- {id: b, minimum: 1}\n',
      'yaml',
      [expect.stringMatching(/^3:3 rule "b" would tie with the rule "a"/)],
    ],
  ])('names the place of %s', (_, source, format, expected) => {
    expect(issuesOf(source, format)).toEqual(expected)
  })

  it('that is no JSON is refused with its line', () => {
    expect(issuesOf('{"rules": [\n{"id": "a", "markup": 1,,}]}', 'json')[0]).toMatch(/^2:/)
  })

  it('is read as its name says', () => {
    expect(['a.yaml', 'a.YML', 'a.json', 'a.rules', 'a'].map(ruleFormatOf)).toEqual([
      'yaml',
      'yaml',
      'json',
      'rules',
      'rules',
    ])
  })

  it('can be any text: reading never throws', () => {
    const piece = fc.constantFrom(
      'rules:',
      '\n',
      '- ',
      'id: a',
      '{',
      '}',
      '[',
      ']',
      '&a',
      '*a',
      ': ',
      '"',
      '\t',
      '1',
    )
    const noise = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(piece, { maxLength: 40 }).map((all) => all.join('')),
    )
    fc.assert(
      fc.property(noise, (source) => {
        for (const { line, column } of readRuleFile(source, 'yaml').issues) {
          expect(Math.min(line, column)).toBeGreaterThanOrEqual(1)
        }
      }),
    )
  })
})

describe('docs/reference/markup-rules.md', () => {
  const page = readFileSync(new URL('../../../docs/reference/markup-rules.md', import.meta.url), 'utf8')
  const block = (name: string) => new RegExp(`\`\`\`${name}\\n([\\s\\S]*?)\`\`\``).exec(page)?.[1] ?? ''

  it('has one example in three forms that say the same', () => {
    const example = readRuleFile(block('rules'), 'rules')
    expect(example.issues).toEqual([])
    expect(example.rules).toHaveLength(4)
    expect(readRuleFile(block('yaml'), 'yaml')).toMatchObject({ issues: [], drafts: example.drafts })
    expect(readRuleFile(block('json'), 'json')).toMatchObject({ issues: [], drafts: example.drafts })
  })

  it('has the errors as they are told', () => {
    const told = readRuleFile(block('wrong-rules'), 'rules').issues.map(
      ({ line, column, message }) => `${line}:${column}: ${message}\n`,
    )
    expect(block('wrong-rules-output')).toBe(told.join(''))
  })

  it('has every key', () => {
    const [{ message } = { message: '' }] = readRuleFile('rule "a" { x = 1 minimum = 1 }', 'rules').issues
    const keys = /keys: (.*)\)/.exec(message)?.[1]?.split(', ') ?? []
    expect(keys.length).toBeGreaterThan(10)
    const [, table = ''] = page.split('## Keys')
    const rows = [...(table.split('\n## ')[0] ?? '').matchAll(/^\| `([^`]+)`/gm)].map(([, key]) => key)
    expect(rows.toSorted()).toEqual(keys.toSorted())
  })
})
