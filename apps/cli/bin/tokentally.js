#!/usr/bin/env node
import { existsSync } from 'node:fs'
import { registerHooks } from 'node:module'

// In the repository the sources run as they are, and so do those of the packages that they import; what is
// published holds the build alone.
const source = new URL('../src/main.ts', import.meta.url)
if (existsSync(source)) {
  registerHooks({
    resolve: (specifier, context, nextResolve) =>
      nextResolve(specifier, { ...context, conditions: ['source', ...context.conditions] }),
  })
  await import(source.href)
} else {
  await import('../dist/main.js')
}
