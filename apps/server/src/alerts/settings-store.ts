import { ANOMALY_DEFAULTS } from '@tokentally/core'
import type { Pool } from 'pg'

/** When an organization is told of unusual spending. */
export interface AlertSettings {
  readonly anomalyEnabled: boolean
  /** Robust standard deviations. */
  readonly anomalySensitivity: number
  /** Times what is usual. */
  readonly anomalyMinFactor: number
  /** US dollars an hour above what is usual; exact decimal text. */
  readonly anomalyMinUsd: string
}

export const SETTINGS_DEFAULTS: AlertSettings = {
  anomalyEnabled: true,
  anomalySensitivity: ANOMALY_DEFAULTS.sensitivity,
  anomalyMinFactor: ANOMALY_DEFAULTS.minFactor,
  anomalyMinUsd: String(ANOMALY_DEFAULTS.minUsd),
}

interface SettingsRow {
  readonly anomaly_enabled: boolean
  readonly anomaly_sensitivity: number
  readonly anomaly_min_factor: number
  readonly anomaly_min_usd: string
}

/** An organization's settings; the defaults where it has none. */
export async function readSettings(pool: Pool, organizationId: string): Promise<AlertSettings> {
  const { rows } = await pool.query<SettingsRow>('select * from alert_settings where organization_id = $1', [
    organizationId,
  ])
  const [row] = rows
  if (row === undefined) return SETTINGS_DEFAULTS
  return {
    anomalyEnabled: row.anomaly_enabled,
    anomalySensitivity: row.anomaly_sensitivity,
    anomalyMinFactor: row.anomaly_min_factor,
    anomalyMinUsd: row.anomaly_min_usd,
  }
}

export async function writeSettings(
  pool: Pool,
  organizationId: string,
  settings: AlertSettings,
  now: Date,
): Promise<void> {
  await pool.query(
    `insert into alert_settings (organization_id, anomaly_enabled, anomaly_sensitivity, anomaly_min_factor,
       anomaly_min_usd, updated_at)
     values ($1, $2, $3, $4, $5, $6)
     on conflict (organization_id) do update set anomaly_enabled = excluded.anomaly_enabled,
       anomaly_sensitivity = excluded.anomaly_sensitivity, anomaly_min_factor = excluded.anomaly_min_factor,
       anomaly_min_usd = excluded.anomaly_min_usd, updated_at = excluded.updated_at`,
    [
      organizationId,
      settings.anomalyEnabled,
      settings.anomalySensitivity,
      settings.anomalyMinFactor,
      settings.anomalyMinUsd,
      now,
    ],
  )
}
