/**
 * Reads what names stand for which models: `my-deployment=gpt-4o-mini,arn:aws:bedrock:…=anthropic.claude-…`.
 *
 * @returns models by the names that calls use for them
 * @throws TypeError naming the entry that is wrong and how to write it
 */
export function parseModels(text: string): ReadonlyMap<string, string> {
  return new Map(
    text
      .split(',')
      .map((entry) => entry.trim())
      .filter((entry) => entry !== '')
      .map((entry) => {
        const split = entry.lastIndexOf('=')
        const name = entry.slice(0, split).trim()
        const model = entry.slice(split + 1).trim()
        if (split === -1 || name === '' || model === '') {
          throw new TypeError(
            `tokentally: models "${entry}" must be written as NAME=MODEL, e.g. my-deployment=gpt-4o-mini`,
          )
        }
        return [name, model] as const
      }),
  )
}
