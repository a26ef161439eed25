/**
 * What an id of Amazon Bedrock tells of the model behind it (Amazon Bedrock user guide, "Use an inference profile
 * in model invocation" and "Amazon Resource Names", read 2026-11). It is a model (`anthropic.claude-…-v1:0`), an
 * inference profile over several regions (`us.`, `eu.`, `apac.`, `global.` … before the model), or an ARN of one of
 * these or of something that has a name of its own: an application's profile, a provisioned, custom or imported
 * model, a prompt, a prompt router.
 *
 * @returns the model with the prefix of its profile, because prices differ by it; the id itself where it hides
 *   the model
 */
export function bedrockModel(id: string): string {
  return NAMED.exec(id)?.[1] ?? id
}

/** Whether an id says nothing of the model, so that only the answer can. */
export function hidesModel(model: string | undefined): boolean {
  return model === undefined || model.startsWith('arn:')
}

const NAMED = /^arn:aws[a-z-]*:bedrock:[^:]*:[^:]*:(?:foundation-model|inference-profile)\/(.+)$/
