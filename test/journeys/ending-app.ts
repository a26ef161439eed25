import { once } from 'node:events'
import { createServer } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { shutdown, start } from '@tokentally/meter'

/**
 * An application that makes one call and ends, in a given way, while the meter may still count its tokens.
 *
 *     node --conditions=source ending-app.ts --spool DIRECTORY --answer cut|reported --end normally|exit|shutdown
 */
const { values } = parseArgs({
  options: {
    spool: { type: 'string', default: '' },
    answer: { type: 'string', default: 'cut' },
    end: { type: 'string', default: 'normally' },
    sample: { type: 'string', default: '0' },
  },
})

const ANSWER = 'Hello! How can I assist you today?'
const provider = createServer((request, response) => {
  request.resume()
  if (values.answer === 'cut') {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const chunk = { model: 'gpt-4o', choices: [{ index: 0, delta: { content: ANSWER } }] }
    response.write(`data: ${JSON.stringify(chunk)}\n\n`, () => response.destroy())
    return
  }
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(
    JSON.stringify({
      model: 'gpt-4o',
      choices: [{ message: { role: 'assistant', content: ANSWER } }],
      usage: { prompt_tokens: 9, completion_tokens: 9, total_tokens: 18 },
    }),
  )
})
provider.listen(0, '127.0.0.1')
await once(provider, 'listening')
const address = provider.address()
const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/v1`

start({
  spool: values.spool,
  endpoints: `${url}=openai`,
  injectStreamUsage: false,
  tokenizerSample: Number(values.sample),
})
const messages = [{ role: 'user', content: 'Hello there' }]
const response = await fetch(`${url}/chat/completions`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ model: 'gpt-4o', stream: values.answer === 'cut', messages }),
})
await response.text().catch(() => undefined)
provider.closeAllConnections()
provider.close()
if (values.end === 'exit') {
  // One turn: the meter has seen the end of the answer, and its worker has not even started.
  await setImmediate()
  process.exit(0)
}
if (values.end === 'shutdown') await shutdown()
