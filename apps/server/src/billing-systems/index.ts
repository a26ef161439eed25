export type {
  BillingSystem,
  CreditNoteDocument,
  PlannedStep,
  StepContext,
  StepOutcome,
} from './billing-system.ts'
