import { start } from '@tokentally/meter'
import OpenAI from 'openai'

/** An app that dies in the moment in which a streamed answer ends whose tokens the provider does not report. */
start({ customer: 'killed-estimate', injectStreamUsage: false })
const client = new OpenAI({ apiKey: 'sk-test', baseURL: `${process.env['PROVIDER_URL']}/v1` })
const stream = await client.chat.completions.create({
  model: 'gpt-4o-mini',
  messages: [{ role: 'user', content: 'hello' }],
  stream: true,
})
for await (const _ of stream);
process.kill(process.pid, 'SIGKILL')
