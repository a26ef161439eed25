import { attribute, flush, shutdown, start } from '@tokentally/meter'
import OpenAI from 'openai'

/** An app that calls a model again and again; prints a line once a call counts as metered. */
start({ customer: 'killed-app' })
const client = new OpenAI({ apiKey: 'sk-test', baseURL: `${process.env['PROVIDER_URL']}/v1` })
for (let call = 0; call < Number(process.env['CALLS']); call++) {
  await attribute({ conversation: `c${call}` }, () =>
    client.chat.completions.create({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'hello' }] }),
  )
  process.stdout.write(`${call}\n`)
}
await flush()
await shutdown()
