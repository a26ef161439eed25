import { randomUUID } from 'node:crypto'
import {
  isVendorSource,
  VENDOR_SOURCES,
  type Vendor,
  type VendorFigure,
  type VendorSourceName,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import type { ImportedFigures } from './imported.ts'

/** A file or an answer of a vendor that was taken in. */
export interface VendorImport {
  readonly id: string
  readonly source: string
  readonly vendor: string
  readonly part: string
  readonly origin: 'file' | 'api'
  readonly days: readonly string[]
  readonly lines: number
  readonly ignoredLines: number
  readonly createdAt: Date
  readonly importNo: string
}

interface ImportRow {
  readonly import_id: string
  readonly source: string
  readonly vendor: string
  readonly part: string
  readonly origin: 'file' | 'api'
  readonly days: readonly string[]
  readonly lines: string
  readonly ignored_lines: string
  readonly created_at: Date
  readonly import_no: string
}

const COLUMNS = `import_id, source, vendor, part, origin, days::text[] as days, lines, ignored_lines, created_at, import_no`

export interface NewImport {
  readonly organizationId: string
  readonly origin: 'file' | 'api'
  readonly figures: ImportedFigures
  readonly apiKeyId: string | null
  readonly now: Date
}

/**
 * Keeps what a vendor said. A file that is there already is not kept again; an answer of an API replaces the last one
 * for its days, also when it says the same: the vendor was asked again.
 *
 * @returns the import, and whether it was there before
 */
export function insertImport(
  pool: Pool,
  { organizationId, origin, figures, apiKeyId, now }: NewImport,
): Promise<{ readonly import: VendorImport; readonly isRepeated: boolean }> {
  const { source, part, contentSha256, rows } = figures
  return inTransaction(pool, async (client) => {
    const inserted = await client.query<ImportRow>(
      `insert into vendor_import (organization_id, import_id, source, vendor, part, origin, content_sha256, days, lines,
         ignored_lines, created_at, api_key_id)
       values ($1, $2, $3, $4, $5, $6, $7, $8::date[], $9, $10, $11, $12)
       on conflict (organization_id, source, part, content_sha256) where removed_at is null and origin = 'file'
         do nothing
       returning ${COLUMNS}`,
      [
        organizationId,
        randomUUID(),
        source,
        VENDOR_SOURCES[source].vendor,
        part,
        origin,
        contentSha256,
        figures.days,
        figures.lines,
        figures.ignoredLines,
        now,
        apiKeyId,
      ],
    )
    const [row] = inserted.rows
    if (row === undefined) {
      const { rows: found } = await client.query<ImportRow>(
        `select ${COLUMNS} from vendor_import
         where organization_id = $1 and source = $2 and part = $3 and content_sha256 = $4
           and removed_at is null and origin = 'file'`,
        [organizationId, source, part, contentSha256],
      )
      const [existing] = found
      if (existing === undefined) throw new Error('An import was removed while it was repeated.')
      return { import: importOf(existing), isRepeated: true }
    }
    await client.query(
      `insert into vendor_row (organization_id, import_id, row_no, day, kind, model, meter, service_tier, key_id,
         project_id, quantity, cost_usd, lines)
       select $1, $2, row_no, day, kind, model, meter, service_tier, key_id, project_id, quantity, cost_usd, lines
       from unnest($3::date[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::numeric[],
         $11::numeric[], $12::integer[])
         with ordinality as figure (day, kind, model, meter, service_tier, key_id, project_id, quantity, cost_usd, lines,
           row_no)`,
      [
        organizationId,
        row.import_id,
        rows.map(({ day }) => day),
        rows.map(({ kind }) => kind),
        rows.map(({ model }) => model),
        rows.map(({ meter }) => meter),
        rows.map(({ serviceTier }) => serviceTier),
        rows.map(({ keyId }) => keyId),
        rows.map(({ projectId }) => projectId),
        rows.map(({ quantity }) => quantity),
        rows.map(({ costUsd }) => costUsd),
        rows.map(({ lines }) => lines),
      ],
    )
    return { import: importOf(row), isRepeated: false }
  })
}

function importOf(row: ImportRow): VendorImport {
  return {
    id: row.import_id,
    source: row.source,
    vendor: row.vendor,
    part: row.part,
    origin: row.origin,
    days: row.days,
    lines: Number(row.lines),
    ignoredLines: Number(row.ignored_lines),
    createdAt: row.created_at,
    importNo: row.import_no,
  }
}

/** Imports that were not removed, the newest first. */
export async function listImports(
  pool: Pool,
  request: { readonly organizationId: string; readonly limit: number; readonly before: string | undefined },
): Promise<readonly VendorImport[]> {
  const { rows } = await pool.query<ImportRow>(
    `select ${COLUMNS} from vendor_import
     where organization_id = $1 and removed_at is null and ($2::bigint is null or import_no < $2)
     order by import_no desc
     limit $3`,
    [request.organizationId, request.before ?? null, request.limit],
  )
  return rows.map(importOf)
}

export async function findImport(
  pool: Pool,
  organizationId: string,
  id: string,
): Promise<VendorImport | undefined> {
  const { rows } = await pool.query<ImportRow>(
    `select ${COLUMNS} from vendor_import where organization_id = $1 and import_id = $2 and removed_at is null`,
    [organizationId, id],
  )
  return rows[0] === undefined ? undefined : importOf(rows[0])
}

/** Takes an import out of all reports; what it stood in place of counts again. @returns whether it was there */
export async function removeImport(
  pool: Pool,
  organizationId: string,
  id: string,
  now: Date,
): Promise<boolean> {
  const { rowCount } = await pool.query(
    'update vendor_import set removed_at = $3 where organization_id = $1 and import_id = $2 and removed_at is null',
    [organizationId, id, now],
  )
  return rowCount === 1
}

export interface FigureRequest {
  readonly organizationId: string
  readonly vendor: Vendor
  /** Included. */
  readonly startDay: string
  /** Excluded. */
  readonly endDay: string
}

// The import that counts for a day of a source and part is the last one that tells of it.
const COUNTING = `
  select distinct on (source, part, day) import_id, source, day, created_at
  from vendor_import cross join lateral unnest(days) as day
  where organization_id = $1 and vendor = $2 and removed_at is null and day >= $3::date and day < $4::date
  order by source, part, day, import_no desc`

interface FigureRow {
  readonly source: string
  readonly created_at: Date
  readonly day: string
  readonly kind: VendorFigure['kind'] | null
  readonly model: string | null
  readonly meter: string | null
  readonly service_tier: string | null
  readonly key_id: string | null
  readonly project_id: string | null
  readonly quantity: string | null
  readonly cost_usd: string | null
  readonly lines: number
}

/** What a vendor says of some days, by the imports that count, and which days each source tells of. */
export async function loadFigures(
  pool: Pool,
  { organizationId, vendor, startDay, endDay }: FigureRequest,
): Promise<{
  readonly figures: readonly VendorFigure[]
  readonly coveredDays: ReadonlyMap<VendorSourceName, ReadonlySet<string>>
}> {
  const { rows } = await pool.query<FigureRow>(
    `with counting as materialized (${COUNTING})
     select counting.source, counting.created_at, counting.day::text as day, figure.kind, figure.model, figure.meter,
       figure.service_tier, figure.key_id, figure.project_id, trim_scale(figure.quantity)::text as quantity,
       figure.cost_usd::text as cost_usd, figure.lines
     from counting
     left join vendor_row as figure
       on figure.organization_id = $1 and figure.import_id = counting.import_id and figure.day = counting.day`,
    [organizationId, vendor, startDay, endDay],
  )
  const coveredDays = new Map<VendorSourceName, Set<string>>()
  const figures: VendorFigure[] = []
  for (const row of rows) {
    const { source, day, kind } = row
    if (!isVendorSource(source)) continue
    const days = coveredDays.get(source) ?? new Set()
    coveredDays.set(source, days.add(day))
    if (kind === null) continue
    figures.push({
      source,
      importedAtMs: row.created_at.getTime(),
      day,
      kind,
      model: row.model,
      meter: row.meter,
      serviceTier: row.service_tier,
      keyId: row.key_id,
      projectId: row.project_id,
      quantity: row.quantity,
      costUsd: row.cost_usd,
      lines: row.lines,
    })
  }
  return { figures, coveredDays }
}
