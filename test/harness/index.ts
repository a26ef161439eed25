/** What tests of several parts together stand on. */
export { createEmptyDatabase, createTestDatabase, type TestDatabase } from './database.ts'
export { type EventStream, openEventStream } from './event-stream.ts'
export { type Received, type Receiver, startReceiver } from './receiver.ts'
export {
  type ServiceOptions,
  type SpawnedService,
  spawnService,
  startService,
  type TestService,
} from './service.ts'
export { waitFor } from './wait-for.ts'
