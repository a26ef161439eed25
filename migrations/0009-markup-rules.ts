import type { Knex } from 'knex'

/**
 * Markup rules: how list costs become sell costs. A row is a version of a rule from a time on and is never changed
 * or removed: rated events name the version that they were sold by. An edit is another row, and so is the end
 * of a rule. New table only: locks nothing that exists.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table markup_rule (
      -- of the version; what usage_event.markup_rule_id names
      id uuid primary key,
      organization_id uuid not null,
      -- the organization's own name, the same through all versions
      rule_id text not null check (rule_id <> ''),
      version int not null check (version > 0),
      -- by the service's clock, under the lock that appends share: effective_from is not earlier
      entered_at timestamptz not null,
      effective_from timestamptz not null,
      -- excluded; null: until another version replaces it
      effective_until timestamptz,
      -- the version ends the rule
      is_removal boolean not null,
      -- what an event must carry; null or absent: anything
      provider text,
      model text,
      customer_id text,
      feature text,
      tags jsonb,
      -- {"basis": {"kind": "markup", "markup": "0.2"}, "minimum": null}; amounts are text, exact
      terms jsonb not null,
      -- order of entry
      sequence bigint generated always as identity unique,
      created_at timestamptz not null default now(),
      unique (organization_id, rule_id, version),
      check (effective_from >= entered_at),
      check (effective_until > effective_from)
    );

    create trigger markup_rule_is_append_only
      before update or delete on markup_rule
      for each row execute function refuse_change();

    create trigger markup_rule_is_not_truncated
      before truncate on markup_rule
      for each statement execute function refuse_change();
  `)
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table markup_rule')
}
