import { describe, expect, it } from 'vitest'
import { formatInstant, isTimeZone, offsetMinutes, startOfDayMs } from './time-zone.ts'

describe('time zones', () => {
  it.each([
    ['UTC', '2026-11-01', '2026-11-01T00:00:00.000Z'],
    ['America/New_York', '2026-11-01', '2026-11-01T04:00:00.000Z'],
    ['America/New_York', '2026-11-02', '2026-11-02T05:00:00.000Z'],
    ['Asia/Kolkata', '2026-11-01', '2026-10-31T18:30:00.000Z'],
    ['Asia/Kathmandu', '2026-11-01', '2026-10-31T18:15:00.000Z'],
    ['Australia/Lord_Howe', '2026-11-01', '2026-10-31T13:00:00.000Z'],
    ['Pacific/Kiritimati', '2026-11-01', '2026-10-31T10:00:00.000Z'],
    // The clock skips midnight.
    ['America/Havana', '2026-03-08', '2026-03-08T05:00:00.000Z'],
    ['America/Santiago', '2026-09-06', '2026-09-06T04:00:00.000Z'],
    ['Africa/Cairo', '2026-04-24', '2026-04-23T22:00:00.000Z'],
    // The clock shows midnight twice.
    ['America/Havana', '2026-11-01', '2026-11-01T04:00:00.000Z'],
    ['Asia/Amman', '2021-10-29', '2021-10-28T21:00:00.000Z'],
  ])('the day in %s that is called %s begins at %s', (zone, date, instant) => {
    expect(new Date(startOfDayMs(date, zone)).toISOString()).toBe(instant)
  })

  it('knows offsets of half and quarter hours, and negative ones', () => {
    const instantMs = Date.UTC(2026, 10, 23, 12)
    expect(offsetMinutes(instantMs, 'Asia/Kathmandu')).toBe(345)
    expect(offsetMinutes(instantMs, 'America/St_Johns')).toBe(-210)
    expect(formatInstant(instantMs, 'America/St_Johns')).toBe('2026-11-23T08:30:00-03:30')
    expect(formatInstant(instantMs, 'UTC')).toBe('2026-11-23T12:00:00Z')
  })

  it('refuses what is no zone', () => {
    expect(isTimeZone('Europe/Paris')).toBe(true)
    expect(isTimeZone('Mars/Olympus')).toBe(false)
  })
})
