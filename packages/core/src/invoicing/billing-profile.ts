import { z } from 'zod'
import { isTimeZone } from '../calendar/time-zone.ts'

/**
 * How a customer is invoiced. Its JSON form is that of the API and is stored so; every invoice keeps a copy of the
 * profile that it was made by.
 */

/** What usage can be told apart by on an invoice. */
export const LINE_DIMENSIONS = ['feature', 'model', 'provider', 'project', 'meter'] as const
export type LineDimension = (typeof LINE_DIMENSIONS)[number]

/** Where finalized invoices of the customer go, beside the systems that get every invoice of the organization. */
export const BILLING_SYSTEMS = ['none', 'stripe_invoices', 'stripe_meters', 'chargebee'] as const

const text = z
  .string()
  .min(1)
  .max(512)
  .refine((value) => value.isWellFormed() && !value.includes('\0'), 'must be well-formed Unicode without NUL')

const amount = z
  .string()
  .regex(/^\d{1,12}(\.\d{1,2})?$/, 'must be an amount as a decimal string such as "500" or "0.25"')

const day = z.iso.date('must be a date such as 2026-11-01')

const cycle = z.discriminatedUnion('interval', [
  z.strictObject({
    interval: z.literal('month'),
    anchor_day: z
      .number()
      .int()
      .min(1)
      .max(31)
      .default(1)
      .describe('The day that cycles begin on; in shorter months their last day. 1: calendar months.'),
  }),
  z.strictObject({
    interval: z.literal('week'),
    anchor_weekday: z.number().int().min(1).max(7).default(1).describe('ISO 8601: 1 is Monday.'),
  }),
])

/** A billing profile without its customer, as the API takes it. */
export const billingProfileSchema = z
  .strictObject({
    name: text.nullish().describe('Who the invoice is made out to. Default: the customer id.'),
    email: z.email().max(320).nullish(),
    address: z.array(text).max(8).default([]).describe('Lines under the name.'),
    cycle: cycle.default({ interval: 'month', anchor_day: 1 }),
    timezone: z
      .string()
      .max(64)
      .refine(
        (name) => /^[A-Za-z]/.test(name) && isTimeZone(name),
        'is no IANA time zone, such as Europe/Paris',
      )
      .default('UTC')
      .describe('Decides when cycles begin and end.'),
    currency: z
      .string()
      .regex(/^[A-Z]{3}$/, 'must be an ISO 4217 code such as EUR')
      .default('USD')
      .describe('What invoices are in.'),
    lines_by: z
      .array(z.enum(LINE_DIMENSIONS))
      .max(LINE_DIMENSIONS.length)
      .refine((list) => new Set(list).size === list.length, 'must differ from each other')
      .default(['model'])
      .describe('Usage that is alike in these is one line; []: all usage is one line.'),
    allowance: amount.default('0').describe('Usage that is included in each cycle, in `currency`.'),
    discount: z
      .string()
      .regex(/^(0(\.\d{1,6})?|1(\.0{1,6})?)$/, 'must be a fraction between "0" and "1"')
      .default('0')
      .describe('Off what usage costs beyond the allowance: "0.1" is 10 %.'),
    minimum: amount
      .default('0')
      .describe('The least that a cycle costs, in `currency`, after allowance and discount.'),
    net_days: z
      .number()
      .int()
      .min(0)
      .max(365)
      .default(30)
      .describe('Days from finalization until it is due.'),
    grace_hours: z
      .number()
      .int()
      .min(0)
      .max(24 * 31)
      .default(24)
      .describe('How long after its end a cycle waits for late events. Later ones go to the next invoice.'),
    finalize: z
      .enum(['auto', 'manual'])
      .default('manual')
      .describe('`manual`: an invoice stays a draft until somebody finalizes it.'),
    system: z.enum(BILLING_SYSTEMS).default('none').describe('Where finalized invoices go.'),
    stripe_customer_id: z
      .string()
      .regex(/^cus_\w{1,100}$/, 'must be the id of a Stripe customer: cus_…')
      .nullish(),
    chargebee_customer_id: z.string().min(1).max(50).nullish(),
    starts_on: day.describe('The first day that is invoiced, in `timezone`; the first cycle may be shorter.'),
    ends_on: day
      .nullish()
      .describe('The first day that is no longer invoiced; the last cycle may be shorter.'),
  })
  .refine(({ starts_on, ends_on }) => ends_on === undefined || ends_on === null || starts_on < ends_on, {
    path: ['ends_on'],
    message: 'must lie after starts_on',
  })

export type BillingProfile = z.output<typeof billingProfileSchema>
