import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const DEMO = fileURLToPath(new URL('../../examples/demo/demo.ts', import.meta.url))

async function run(args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, ['--conditions=source', DEMO, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, output }
}

test('the demo shows usage and cost by customer, feature and model, an alert and a URL, and ends', async () => {
  const { code, output } = await run(['--once', '--requests', '60'])
  expect(output).toMatch(/acme +chat +gpt-4o-mini +12 +\d+ +\d+ +0\.\d+/)
  expect(output).toMatch(/Total +60 /)
  expect(output).toContain('Budget alert')
  expect(output).toMatch(/http:\/\/127\.0\.0\.1:\d+\/docs/)
  expect(code, output).toBe(0)
})

test('a wrong number of requests ends the demo with a line that names the option', async () => {
  const { code, output } = await run(['--requests', 'many'])
  expect(output).toContain('--requests must be a whole number')
  expect(code).toBe(1)
})
