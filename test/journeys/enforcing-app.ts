import { parseArgs } from 'node:util'
import { decisionsReady, start } from '@tokentally/meter'

/**
 * An application with `enforce` that has nothing more to do.
 *
 *     node --conditions=source enforcing-app.ts --spool DIRECTORY --url SERVICE [--wait MS]
 */
const { values } = parseArgs({
  options: {
    spool: { type: 'string', default: '' },
    url: { type: 'string', default: '' },
    wait: { type: 'string' },
  },
})

start({ spool: values.spool, url: values.url, apiKey: 'key', enforce: true, onError: () => undefined })
const isReady = values.wait === undefined ? undefined : await decisionsReady(Number(values.wait))
process.stdout.write(`ready: ${isReady}\n`)
