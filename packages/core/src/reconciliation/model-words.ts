/**
 * The form in which model names of bills and of APIs are compared: their words, in order of the alphabet. Bills
 * write `Claude4.6Sonnet`, `gpt-4o-mini-0718` or `Gemini 2.5 Flash` where the API says
 * `us.anthropic.claude-sonnet-4-6-20260101-v1:0`, `gpt-4o-mini-2024-07-18` or `gemini-2.5-flash`: regions, makers,
 * dates of snapshots and versions of an API are left out, and letters stand apart from figures.
 */
export function modelWords(name: string): string {
  const bare = name
    .toLowerCase()
    .replace(/^.*\//, '')
    .replace(/^(?:us|eu|apac|au|jp|ca|sa|global|us-gov)\./, '')
    .replace(/^(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|openai|qwen|google|writer)\./, '')
    .replace(/-v\d+(?::\d+)?(?::\d+k)?$/, '')
    .replace(/[-@ ]20\d{2}-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])(?=$|[-@ :])/g, '')
    .replace(/[- ](?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?=$|[- ])/g, '')
    // Bills write NovaLite and Claude4.6Sonnet.
    .replace(/(nova|claude|llama|mistral|titan|gemini)(?=[a-z])/g, '$1 ')
  const words = bare.match(/[a-z]+|\d+/g) ?? []
  return words
    .filter((word) => !NOISE.has(word))
    .toSorted()
    .join(' ')
}

const NOISE = new Set(['latest', 'ga', 'foundation', 'azure', 'vertex', 'amazon', 'anthropic'])
