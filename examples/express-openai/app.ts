import { shutdown, tokenTally } from '@tokentally/express'
import express from 'express'
import OpenAI from 'openai'

const app = express()
// TOKENTALLY_URL and TOKENTALLY_API_KEY say where the service is.
app.use(tokenTally({ customer: (req) => req.get('x-customer-id'), feature: (req) => req.path }))
app.use(express.text())

// Reads OPENAI_API_KEY and OPENAI_BASE_URL.
const openai = new OpenAI()
const model = process.env['OPENAI_MODEL'] ?? 'gpt-4o-mini'

app.post('/summarize', async (req, res) => {
  const answer = await openai.chat.completions.create({
    model,
    messages: [{ role: 'user', content: `Summarize in one sentence: ${String(req.body)}` }],
  })
  res.json({ summary: answer.choices[0]?.message.content, usage: req.tokenTally.usage })
})

app.post('/stream', async (req, res) => {
  const stream = await openai.chat.completions.create({
    model,
    stream: true,
    messages: [{ role: 'user', content: String(req.body) }],
  })
  res.type('text/plain')
  for await (const chunk of stream) res.write(chunk.choices[0]?.delta.content ?? '')
  res.end()
})

const server = app.listen(Number(process.env['PORT'] ?? 3000), '127.0.0.1', () => {
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : ''
  process.stdout.write(`Listening on http://127.0.0.1:${port}\n`)
})

// Answers what is open, then delivers what was metered; what cannot be delivered now waits in the spool.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => server.close(() => shutdown()))
}
