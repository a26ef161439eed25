import { checkRuleFile, parseRules, type RuleFile } from '@tokentally/core'
import { yamlRules } from './rule-yaml.ts'

export const RULE_FORMATS = ['rules', 'yaml', 'json'] as const
export type RuleFormat = (typeof RULE_FORMATS)[number]

/** The format that a file's name tells; the rule language when it tells none. */
export function ruleFormatOf(path: string): RuleFormat {
  if (/\.ya?ml$/i.test(path)) return 'yaml'
  return /\.json$/i.test(path) ? 'json' : 'rules'
}

/** Reads the text of a rule file in any of its forms. Never throws; the issues say what is wrong, and where. */
export function readRuleFile(source: string, format: RuleFormat): RuleFile {
  // JSON is read as YAML, of which it is a part, to know the lines.
  const { entries, issues } = format === 'rules' ? parseRules(source) : yamlRules(source)
  return checkRuleFile(entries, issues)
}
