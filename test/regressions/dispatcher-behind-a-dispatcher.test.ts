import type { UsageEvent } from '@tokentally/core'
import { Agent, setGlobalDispatcher } from 'undici'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { tapDispatcher } from '../../packages/meter/src/tap/dispatcher.ts'
import { tapFetch } from '../../packages/meter/src/tap/fetch.ts'
import { type FakeVendors, startFakeVendors } from '../fake-provider/vendors/index.ts'
import { tapDependencies } from '../harness/tap.ts'

/**
 * @google/genai 3 gives every request a dispatcher of its own, which hands it to the global one. Both are tapped;
 * an answer that was watched twice was read with each of its bytes doubled, and counted as nothing.
 */

let vendors: FakeVendors
const before: unknown = Reflect.get(globalThis, Symbol.for('undici.globalDispatcher.1'))
beforeAll(async () => {
  vendors = await startFakeVendors()
})
afterAll(async () => {
  if (before instanceof Agent) setGlobalDispatcher(before)
  await vendors.close()
})

it('an answer that comes through two tapped dispatchers is counted once, as reported', async () => {
  const events: UsageEvent[] = []
  const errors: unknown[] = []
  const dependencies = tapDependencies(events, errors)
  const global = vendors.dispatcher()
  tapDispatcher(global, () => dependencies)
  setGlobalDispatcher(global)
  const metered = tapFetch(fetch, () => dependencies, true)
  vendors.next({ truth: { input: 12, output: 34 } })
  const dispatcher = new Agent()
  dispatcher.dispatch = (options, handler) => global.dispatch(options, handler)
  const url = 'https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent'
  const init: RequestInit = { method: 'POST', body: '{"contents":[]}' }
  // The types of fetch are those of Node's own undici, whose dispatchers are the same at run time.
  Reflect.set(init, 'dispatcher', dispatcher)
  expect(await (await metered(url, init)).json()).toMatchObject({ modelVersion: 'gemini-2.5-flash' })
  await dispatcher.close()
  expect(events).toMatchObject([{ quantities: { input_tokens: 12, output_tokens: 34 }, estimated: false }])
  expect(errors).toEqual([])
})
