import { once } from 'node:events'
import Anthropic from '@anthropic-ai/sdk'
import { tokenTally } from '@tokentally/express'
import express from 'express'
import OpenAI from 'openai'

export interface DemoAppOptions {
  readonly serviceUrl: string
  readonly apiKey: string
  readonly providerUrl: string
  readonly spool: string
}

export interface DemoApp {
  readonly url: string
  stop(): Promise<void>
}

/** An Express app as people write it: the middleware is the only line that knows of metering. */
export async function startDemoApp(options: DemoAppOptions): Promise<DemoApp> {
  const { serviceUrl, apiKey, providerUrl, spool } = options
  const app = express()
  app.use(
    tokenTally({
      url: serviceUrl,
      apiKey,
      spool,
      endpoints: `${providerUrl}=openai,${providerUrl}=anthropic`,
      customer: (req) => req.get('x-customer-id'),
      feature: (req) => req.path.slice(1),
    }),
  )

  const openai = new OpenAI({ apiKey: 'demo', baseURL: `${providerUrl}/v1` })
  const anthropic = new Anthropic({ apiKey: 'demo', baseURL: providerUrl })
  const messages = (text: string) => [{ role: 'user' as const, content: text }]

  app.get('/chat', async (_req, res) => {
    const stream = await openai.chat.completions.create({
      model: 'gpt-4o-mini',
      stream: true,
      messages: messages('Where is my parcel?'),
    })
    for await (const chunk of stream) res.write(chunk.choices[0]?.delta.content ?? '')
    res.end()
  })
  app.get('/summarize', async (_req, res) => {
    const answer = await openai.chat.completions.create({
      model: 'gpt-4o',
      messages: messages('Summarize this contract.'),
    })
    res.send(answer.choices[0]?.message.content ?? '')
  })
  app.get('/translate', async (_req, res) => {
    const answer = await anthropic.messages.create({
      model: 'claude-sonnet-4-6',
      max_tokens: 256,
      messages: messages('Translate this page.'),
    })
    res.send(String(answer.content.length))
  })
  app.get('/research', async (_req, res) => {
    const stream = anthropic.messages.stream({
      model: 'claude-sonnet-4-6',
      max_tokens: 512,
      messages: messages('Compare these suppliers.'),
    })
    for await (const event of stream) if (event.type === 'content_block_delta') res.write('.')
    res.end()
  })

  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the app has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    async stop() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
