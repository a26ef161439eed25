import type { Writable } from 'node:stream'

/** All of the world that the commands touch, besides the usage file. */
export interface Terminal {
  readonly stdout: Writable & { readonly isTTY?: boolean }
  readonly stderr: Writable
  readonly environment: Readonly<Record<string, string | undefined>>
  /** UTC milliseconds. */
  readonly now: () => number
  readonly fetch: typeof fetch
}

/** A command was called in a way that cannot be done; the message says which part, and how to write it. */
export class WrongUsage extends Error {
  override readonly name = 'WrongUsage'
}
