import Anthropic from '@anthropic-ai/sdk'
import { shutdown, tokenTally } from '@tokentally/koa'
import Koa from 'koa'

const app = new Koa()
// TOKENTALLY_URL and TOKENTALLY_API_KEY say where the service is.
app.use(tokenTally({ customer: (ctx) => ctx.get('x-customer-id'), feature: (ctx) => ctx.path }))

// Reads ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.
const anthropic = new Anthropic()

app.use(async (ctx) => {
  const question = ctx.query['q']
  if (ctx.path !== '/ask' || typeof question !== 'string') {
    ctx.status = 404
    ctx.body = { error: 'use GET /ask?q=a+question' }
    return
  }
  const answer = await anthropic.messages.create({
    model: process.env['ANTHROPIC_MODEL'] ?? 'claude-sonnet-4-6',
    max_tokens: 512,
    messages: [{ role: 'user', content: question }],
  })
  ctx.body = {
    answer: answer.content.flatMap((block) => (block.type === 'text' ? [block.text] : [])).join(''),
    usage: ctx.tokenTally.usage,
  }
})

const server = app.listen(Number(process.env['PORT'] ?? 3001), '127.0.0.1', () => {
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : ''
  process.stdout.write(`Listening on http://127.0.0.1:${port}\n`)
})

// Answers what is open, then delivers what was metered; what cannot be delivered now waits in the spool.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => server.close(() => shutdown()))
}
