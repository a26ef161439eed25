export { type RuleChooser, ruleChooser, sellUsage } from './preview.ts'
export type { UsageSource } from './preview-store.ts'
export { registerSimulationRoutes, type SimulationRoutesDeps } from './routes.ts'
export { line, NDJSON, triedRules, triedRulesFields } from './tried-rules.ts'
