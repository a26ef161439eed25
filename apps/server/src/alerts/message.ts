import { formatInstant } from '@tokentally/core'
import { z } from 'zod'
import { type Alert, alertDetailsSchema, type DetailsOf, isOfBudget } from './alert.ts'

/** What a notification says, before a channel puts it into its own form. Stored with the delivery. */
export const messageSchema = z.object({
  type: z.enum(['alert.fired', 'alert.reminder', 'channel.test']),
  /** One line. */
  title: z.string(),
  /** A sentence or two. */
  summary: z.string(),
  facts: z.array(z.object({ label: z.string(), value: z.string() })),
  /** What else fired at the same time, a line each. */
  also: z.array(z.string()),
  link: z.string().nullable(),
  /** For programs. */
  alert: z
    .object({
      id: z.string(),
      kind: z.string(),
      threshold: z.number().nullable(),
      period: z.object({ start: z.string(), end: z.string() }),
      fired_at: z.string(),
      details: alertDetailsSchema,
    })
    .nullable(),
})

export type Message = z.infer<typeof messageSchema>

/** Lines of what else fired; the rest is counted. */
const ALSO_MAX = 10

/**
 * Says what an alert is about.
 *
 * @param also what fired with it and is told in the same message
 */
export function alertMessage(
  type: 'alert.fired' | 'alert.reminder',
  alert: Alert,
  also: readonly Alert[],
  publicUrl: string | undefined,
): Message {
  const { title, summary, facts } = told(alert)
  const lines = also.slice(0, ALSO_MAX).map((one) => told(one).title)
  if (also.length > ALSO_MAX) lines.push(`and ${also.length - ALSO_MAX} more`)
  return {
    type,
    title: type === 'alert.reminder' ? `Reminder: ${title}` : title,
    summary,
    facts: [...facts],
    also: lines,
    link: publicUrl === undefined ? null : `${publicUrl}/api/v1/alerts/${alert.id}`,
    alert: {
      id: alert.id,
      kind: alert.details.kind,
      threshold: isOfBudget(alert.details) ? alert.threshold : null,
      period: {
        start: new Date(alert.period.startMs).toISOString(),
        end: new Date(alert.period.endMs).toISOString(),
      },
      fired_at: alert.firedAt.toISOString(),
      details: alert.details,
    },
  }
}

/** What the test button sends. */
export function testMessage(channelName: string, publicUrl: string | undefined): Message {
  return {
    type: 'channel.test',
    title: 'A test from TokenTally',
    summary: `The channel ${channelName} works: alerts will arrive here.`,
    facts: [],
    also: [],
    link: publicUrl ?? null,
    alert: null,
  }
}

interface Told {
  readonly title: string
  readonly summary: string
  readonly facts: readonly { readonly label: string; readonly value: string }[]
}

function told(alert: Alert): Told {
  const { details } = alert
  switch (details.kind) {
    case 'budget_threshold':
      return toldOfBudget(alert, details)
    case 'budget_forecast':
      return toldOfExpected(alert, details)
    case 'spend_anomaly':
      return toldOfAnomaly(details)
    case 'unpriced_usage':
      return {
        title: `No price for ${modelText(details)}`,
        summary:
          'Usage of it is counted and costs nothing in reports until a price is set; it is rated then.',
        facts: [
          { label: 'Provider', value: details.provider },
          { label: 'Model', value: details.model ?? 'none' },
          { label: 'Events today, so far', value: String(details.events) },
        ],
      }
    case 'count_mismatch':
      return {
        title: `Counts of ${modelText(details)} contradict each other`,
        summary: "The provider's own counts do not add up; the events are marked and billed as reported.",
        facts: [
          { label: 'Provider', value: details.provider },
          { label: 'Model', value: details.model ?? 'none' },
          { label: 'Contradiction', value: details.mismatch },
          { label: 'Events today, so far', value: String(details.events) },
        ],
      }
    case 'dead_letters':
      return {
        title: 'Usage could not be understood',
        summary: `${details.letters} ${details.letters === 1 ? 'event was' : 'events were'} set aside as dead letters today. They count once they are mended and replayed.`,
        facts: [{ label: 'Sent to', value: details.door === 'traces' ? '/v1/traces' : '/api/v1/usage' }],
      }
  }
}

function toldOfBudget({ threshold, period }: Alert, details: DetailsOf<'budget_threshold'>): Told {
  const { forecast, time_zone: zone } = details
  const facts = [
    { label: 'Scope', value: details.scope },
    { label: 'Spent', value: `${usd(details.spent_usd)} of ${usd(details.limit_usd)}` },
    {
      label: 'Share of the limit',
      value: details.percent === null ? 'the limit is zero' : `${details.percent} %`,
    },
    { label: 'Period', value: `${timeText(period.startMs, zone)} to ${timeText(period.endMs, zone)}` },
  ]
  if (forecast !== null) {
    facts.push({
      label: forecast.basis === 'forecast' ? 'Forecast of the end' : 'Extrapolated to the end',
      value:
        forecast.basis === 'forecast'
          ? usd(forecast.end_usd)
          : `${usd(forecast.end_usd)} if spending goes on as until now (a straight line)`,
    })
    if (forecast.limit_reached_at !== null) {
      facts.push({
        label: forecast.basis === 'forecast' ? 'Limit reached, forecast' : 'Limit reached, extrapolated',
        value: timeText(Date.parse(forecast.limit_reached_at), zone),
      })
    }
  }
  if (details.enforcement !== 'notify') {
    facts.push({ label: 'At the limit', value: ENFORCEMENTS[details.enforcement] })
  }
  const share = details.percent === null ? 'more than its limit' : `${details.percent} % of its limit`
  return {
    title: `${details.budget_name}: ${threshold} % reached`,
    summary: `The budget ${details.budget_name} has spent ${share} for ${details.scope}.`,
    facts,
  }
}

function toldOfExpected({ threshold, period }: Alert, details: DetailsOf<'budget_forecast'>): Told {
  const { time_zone: zone, limit_reached_at: reachedAt } = details
  const day = reachedAt === null ? undefined : timeText(Date.parse(reachedAt), zone).slice(0, 10)
  const facts = [
    { label: 'Scope', value: details.scope },
    { label: 'Spent', value: `${usd(details.spent_usd)} of ${usd(details.limit_usd)}` },
    { label: 'Forecast of the end', value: usd(details.end_usd) },
    {
      label: '95 % interval',
      value: `${usd(details.end_lo95_usd)} to ${usd(details.end_hi95_usd)}`,
    },
    { label: 'Period', value: `${timeText(period.startMs, zone)} to ${timeText(period.endMs, zone)}` },
  ]
  if (details.enforcement !== 'notify') {
    facts.push({ label: 'At the limit', value: ENFORCEMENTS[details.enforcement] })
  }
  return {
    title:
      day === undefined
        ? `${details.budget_name}: ${threshold} % expected by the end of the period`
        : `${details.budget_name}: the limit will be crossed on ${day}`,
    summary: `The budget ${details.budget_name} is expected to end its period with ${usd(details.end_usd)} for ${details.scope}; its limit is ${usd(details.limit_usd)}.`,
    facts,
  }
}

const ENFORCEMENTS = {
  rate_limit: 'calls are limited in rate',
  downgrade: 'calls go to cheaper models',
  block: 'calls are blocked',
} as const

function toldOfAnomaly(details: DetailsOf<'spend_anomaly'>): Told {
  const season = details.method === 'weekly' ? 'hour of the week' : 'hour of the day'
  return {
    title: `${details.scope}: unusual spending of ${usd(details.spent_usd)} in an hour`,
    summary: `Usual for this ${season} are ${usd(details.usual_usd)}.`,
    facts: [
      { label: 'Scope', value: details.scope },
      { label: 'Hour', value: timeText(Date.parse(details.hour)) },
      { label: 'Spent in it, so far', value: usd(details.spent_usd) },
      { label: 'Usual', value: usd(details.usual_usd) },
    ],
  }
}

function modelText({
  provider,
  model,
}: {
  readonly provider: string
  readonly model: string | null
}): string {
  return model === null ? provider : `${provider} ${model}`
}

/** To the cent, for people; exact amounts stand in `alert`. Cut, not rounded up to what was not spent. */
function usd(amount: string): string {
  const [whole = '0', fraction = ''] = amount.split('.')
  const cents = fraction.padEnd(2, '0').slice(0, 2)
  if (/^-?0*$/.test(whole) && cents === '00' && /[1-9]/.test(fraction)) return 'less than 0.01 USD'
  return `${whole}.${cents} USD`
}

function timeText(atMs: number, timeZone = 'UTC'): string {
  return `${formatInstant(atMs, timeZone).slice(0, 16).replace('T', ' ')} ${timeZone}`
}
