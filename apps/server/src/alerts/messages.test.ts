import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { BudgetStatus, KnownForecast } from '@tokentally/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Alert } from './alert.ts'
import { isWanted, maskTarget } from './channel.ts'
import { emailMessage } from './email-message.ts'
import { budgetCandidates } from './evaluate-budgets.ts'
import { alertMessage, type Message } from './message.ts'
import { type SlackMessage, slackMessage } from './slack-message.ts'
import { teamsMessage } from './teams-message.ts'

const unanswered = { acknowledgedAt: null, acknowledgedBy: null, snoozedUntil: null, resolvedAt: null }
const FIRED_AT = new Date('2026-11-24T18:03:27Z')

function alertsOf(fields: Partial<BudgetStatus> = {}): readonly Alert[] {
  const status: BudgetStatus = {
    organizationId: '0197a000-0000-7000-8000-000000000001',
    budgetId: '0197a000-0000-7000-8000-000000000002',
    budgetName: 'engineering-budget',
    scope: { dimension: 'team', value: 'engineering' },
    period: { startMs: Date.UTC(2026, 10), endMs: Date.UTC(2026, 11) },
    timeZone: 'UTC',
    basis: 'sell',
    limitUsd: '500',
    spentUsd: '455.1234567',
    thresholds: [50, 75, 90, 100],
    forecastThresholds: [],
    enforcement: 'rate_limit',
    ...fields,
  }
  return budgetCandidates(status, FIRED_AT.getTime()).map((candidate, index) => ({
    ...candidate,
    id: `0197a000-0000-7000-8000-0000000000a${index}`,
    state: 'fired',
    firedAt: FIRED_AT,
    acknowledgedAt: null,
    acknowledgedBy: null,
    snoozedUntil: null,
    resolvedAt: null,
  }))
}

function messageOf(fields: Partial<BudgetStatus> = {}): Message {
  const alerts = alertsOf(fields)
  const alert = alerts.at(-1)
  if (alert === undefined) throw new Error('nothing fired')
  return alertMessage('alert.fired', alert, alerts.slice(0, -1).reverse(), 'https://tokens.example.com')
}

describe('Slack', () => {
  test('the guide shows the message as it is sent', async () => {
    const guide = await readFile(
      fileURLToPath(new URL('../../../../docs/guides/slack.md', import.meta.url)),
      'utf8',
    )
    const shown: unknown = JSON.parse(/```json\n([\s\S]*?)```/.exec(guide)?.[1] ?? 'null')
    expect(shown).toEqual(slackMessage(messageOf()))
  })

  /** Every text of a message, with the limit of its place. */
  function limitsOf({ blocks }: SlackMessage): readonly (readonly [text: string, max: number])[] {
    return blocks.flatMap((block): (readonly [string, number])[] => {
      if (block.type === 'header') return [[block.text.text, 150]]
      if (block.type === 'context') return block.elements.map(({ text }) => [text, 3000] as const)
      if (block.type === 'actions') return block.elements.map(({ text }) => [text.text, 75] as const)
      return [
        ...(block.text === undefined ? [] : [[block.text.text, 3000] as const]),
        ...(block.fields ?? []).map(({ text }) => [text, 2000] as const),
      ]
    })
  }

  test('no name breaks the limits of Block Kit, mentions anybody or makes a link', () => {
    const name = fc.string({ unit: 'binary', minLength: 1, maxLength: 600 })
    const wild = fc.oneof(
      name,
      fc.constantFrom('<!channel>', '<https://evil.example|here>', '&'.repeat(600), '😀'.repeat(300)),
    )
    fc.assert(
      fc.property(wild, wild, (budgetName, value) => {
        const message = slackMessage(messageOf({ budgetName, scope: { dimension: 'customer', value } }))
        expect(message.blocks.length).toBeLessThanOrEqual(50)
        for (const [text, max] of limitsOf(message)) {
          expect(text.length).toBeGreaterThan(0)
          expect(text.length).toBeLessThanOrEqual(max)
        }
        expect(message.text.length).toBeLessThanOrEqual(3000)
        for (const block of message.blocks) {
          if (block.type === 'section') expect(block.fields?.length ?? 0).toBeLessThanOrEqual(10)
        }
        const { header, rest } = Object.groupBy(message.blocks, ({ type }) =>
          type === 'header' ? 'header' : 'rest',
        )
        expect(header).toHaveLength(1)
        expect(message.text + JSON.stringify(rest)).not.toMatch(/[<>]|&(?!amp;|lt;|gt;)/)
      }),
    )
  })
})

describe('what is said', () => {
  test('calls an extrapolation what it is', () => {
    const facts = messageOf().facts.map(({ label, value }) => `${label}: ${value}`)
    expect(facts).toContain(
      'Extrapolated to the end: 574.83 USD if spending goes on as until now (a straight line)',
    )
    expect(facts).toContain('Limit reached, extrapolated: 2026-11-27 02:16 UTC')
  })

  test('tells times in the zone of the budget', () => {
    const [period] = messageOf({ timeZone: 'Europe/Berlin' }).facts.filter(({ label }) => label === 'Period')
    expect(period?.value).toBe('2026-11-01 01:00 Europe/Berlin to 2026-12-01 01:00 Europe/Berlin')
  })

  test('tells before the fact, with the day', () => {
    const status: BudgetStatus = {
      organizationId: '0197a000-0000-7000-8000-000000000001',
      budgetId: 'b',
      budgetName: 'engineering-budget',
      scope: { dimension: 'team', value: 'engineering' },
      period: { startMs: Date.UTC(2026, 10), endMs: Date.UTC(2026, 11) },
      timeZone: 'UTC',
      basis: 'sell',
      limitUsd: '500',
      spentUsd: '200.5',
      thresholds: [100],
      forecastThresholds: [100, 300],
      enforcement: 'notify',
    }
    const startMs = Date.UTC(2026, 10, 20)
    const forecast: KnownForecast = {
      method: 'combined',
      startMs,
      days: new Array<number>(30).fill(100),
      sums: { half80: 10, half95: 20, power: 1 },
    }
    const [candidate, ...others] = budgetCandidates(status, startMs, forecast)
    expect(others).toEqual([])
    expect(candidate).toMatchObject({
      threshold: 100,
      details: {
        kind: 'budget_forecast',
        end_usd: '1300.5',
        end_lo95_usd: '1080.5',
        limit_reached_at: '2026-11-22T23:52:48.000Z',
      },
    })
    if (candidate === undefined) return
    const alert: Alert = { ...candidate, id: 'a', state: 'fired', firedAt: FIRED_AT, ...unanswered }
    expect(alertMessage('alert.fired', alert, [], undefined).title).toBe(
      'engineering-budget: the limit will be crossed on 2026-11-22',
    )
  })

  test('has no forecast where there is none, and no percentage of nothing', () => {
    const { facts, summary } = messageOf({
      period: { startMs: FIRED_AT.getTime() - 1, endMs: Date.UTC(2026, 11) },
    })
    expect(facts.some(({ label }) => label.startsWith('Extrapolated'))).toBe(false)
    expect(summary).toContain('91 %')
    expect(messageOf({ limitUsd: '0' }).summary).toContain('more than its limit')
  })
})

describe('Teams', () => {
  test('gets an Adaptive Card in which names format nothing', () => {
    const card = teamsMessage(messageOf({ budgetName: '[click](https://evil.example) *now*' }))
    const [attachment] = card.attachments
    expect(attachment?.content.version).toBe('1.4')
    expect(attachment?.content.body[0]).toMatchObject({
      type: 'TextBlock',
      text: expect.stringContaining('\\[click\\]\\(https://evil.example\\) \\*now\\*'),
    })
    expect(
      Buffer.byteLength(JSON.stringify(teamsMessage(messageOf({ budgetName: '*'.repeat(600) })))),
    ).toBeLessThan(28_000)
  })
})

describe('e-mail', () => {
  test('has one subject line, and names that are no HTML', () => {
    const mail = emailMessage(messageOf({ budgetName: 'a\r\nBcc: x@y\n<img src=x>' }))
    expect(mail.subject).toBe('a Bcc: x@y <img src=x>: 90 % reached')
    expect(mail.html).not.toContain('<img')
    expect(mail.text).toContain('455.12 USD of 500.00 USD')
  })
})

describe('channels', () => {
  test('show nothing of a target that opens it', () => {
    expect(maskTarget('slack', 'https://hooks.slack.com/services/T024BE7LD/B024BE7LD/Xw9z')).toBe(
      'https://hooks.slack.com/…Xw9z',
    )
    expect(maskTarget('webhook', 'https://example.com/hook')).toBe('https://example.com/…')
    expect(maskTarget('email', 'operations@example.com')).toBe('o…@example.com')
  })

  test('want what they say', () => {
    const [alert] = alertsOf()
    if (alert === undefined) throw new Error('nothing fired')
    const all = { alertKinds: null, budgetIds: null, scopes: null, minThreshold: null }
    expect(isWanted(all, alert)).toBe(true)
    expect(isWanted({ ...all, budgetIds: [alert.budgetId ?? ''] }, alert)).toBe(true)
    expect(isWanted({ ...all, budgetIds: ['another'] }, alert)).toBe(false)
    expect(isWanted({ ...all, minThreshold: 50 }, alert)).toBe(true)
    expect(isWanted({ ...all, minThreshold: 51 }, alert)).toBe(false)
    expect(isWanted({ ...all, scopes: ['team:eng*'] }, alert)).toBe(false)
    const letters = {
      ...alert,
      budgetId: null,
      details: { kind: 'dead_letters', door: 'usage', letters: 1 },
    } as const
    expect(isWanted({ ...all, minThreshold: 90 }, letters)).toBe(true)
    expect(isWanted({ ...all, scopes: ['organization'] }, letters)).toBe(false)
  })
})
