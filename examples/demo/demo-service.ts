import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('../../apps/server/src/main.ts', import.meta.url))
const START_TIMEOUT_MS = 90_000

export interface DemoService {
  readonly url: string
  stop(): Promise<void>
}

/**
 * Starts the service in a process of its own, on a free port and its own data, whatever the environment says
 * about another one.
 *
 * @throws Error with the service's output when it does not start
 */
export async function startDemoService(dataDir: string, apiKey: string): Promise<DemoService> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('TOKENTALLY_') && name !== 'DATABASE_URL' && name !== 'REDIS_URL',
  )
  const child = spawn(process.execPath, ['--conditions=source', MAIN], {
    env: {
      ...Object.fromEntries(inherited),
      TOKENTALLY_PORT: '0',
      TOKENTALLY_DATA_DIR: dataDir,
      TOKENTALLY_BOOTSTRAP_KEY: apiKey,
      LOG_LEVEL: 'warn',
      // The demo needs no network.
      TOKENTALLY_FX_URL: 'off',
      // Its Slack is a server on this machine.
      TOKENTALLY_WEBHOOK_ALLOW: '127.0.0.0/8',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    // Ctrl-C reaches the demo alone, which stops the app first and the service after it.
    detached: true,
  })
  const exited = once(child, 'exit')
  let output = ''
  const ready = Promise.withResolvers<string>()
  const read = (chunk: Buffer) => {
    output += chunk.toString()
    const url = /is ready at (http\S+)/.exec(output)?.[1]
    if (url !== undefined) ready.resolve(url)
  }
  child.stdout.on('data', read)
  child.stderr.on('data', read)
  child.once('error', ready.reject)
  child.once('exit', (code) => ready.reject(new Error(`The service ended with ${code}:\n${output}`)))
  const timer = setTimeout(
    () => ready.reject(new Error(`The service was not ready in time:\n${output}`)),
    START_TIMEOUT_MS,
  )
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    await exited
  }
  try {
    return { url: await ready.promise, stop }
  } catch (error) {
    await stop()
    throw error
  } finally {
    clearTimeout(timer)
  }
}
