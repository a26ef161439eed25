import { type Decimal, decimal, decimalText } from '@tokentally/core'
import { refuse } from './billing-error.ts'

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?$/

/**
 * Makes every number of a JSON text a string of the very digits that it was written with: vendors write costs as
 * numbers, and a cost must not pass through binary floating point.
 */
export function numbersAsText(json: string): string {
  return json.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g, (token) =>
    token.startsWith('"') ? token : `"${token}"`,
  )
}

/** Reads an amount as it was written. @throws BillingError that names the field */
export function amountOf(path: string, text: string): Decimal {
  const trimmed = text.trim()
  if (!NUMBER.test(trimmed)) refuse(path, `${JSON.stringify(text.slice(0, 40))} is no number`)
  return decimal(
    trimmed
      .replace(/^\+/, '')
      .replace(/^(-?)\./, '$10.')
      .replace(/\.(?=$|[eE])/, ''),
  )
}

/** A whole count, not negative. @throws BillingError that names the field */
export function countOf(path: string, text: string | null | undefined): Decimal {
  if (text === null || text === undefined) return decimal('0')
  if (!/^\d{1,18}$/.test(text)) refuse(path, `${JSON.stringify(text)} is no whole number from 0 on`)
  return decimal(text)
}

export function textOf(amount: Decimal): string {
  return decimalText(amount)
}

/** Unix seconds as a UTC day. @throws BillingError that names the field */
export function dayOfSeconds(path: string, seconds: string): string {
  if (!/^\d{9,11}$/.test(seconds)) refuse(path, `${JSON.stringify(seconds)} is no time in Unix seconds`)
  return new Date(Number(seconds) * 1000).toISOString().slice(0, 10)
}

/** The day of a date or instant: `2026-11-01`, `2026-11-01T00:00:00Z`, `2026-11-01 00:00:00 UTC`, `11/01/2026`. */
export function dayOfText(path: string, text: string): string {
  const american = /^(\d{1,2})\/(\d{1,2})\/(\d{4})\b/.exec(text)
  const day =
    american === null
      ? text.trim().slice(0, 10)
      : `${american[3]}-${american[1]?.padStart(2, '0')}-${american[2]?.padStart(2, '0')}`
  const ms = /^\d{4}-\d{2}-\d{2}$/.test(day) ? Date.parse(`${day}T00:00:00Z`) : Number.NaN
  // Rules out days that JavaScript would move on, such as 30 February.
  if (Number.isNaN(ms) || !new Date(ms).toISOString().startsWith(day)) {
    refuse(path, `${JSON.stringify(text.slice(0, 40))} is no date such as 2026-11-01`)
  }
  return day
}
