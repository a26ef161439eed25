/**
 * `node --import @tokentally/meter/register app.js`: metering starts before the application's first import,
 * with options from the environment, so that no client can be made too early.
 */
import { start } from './start.ts'

start()
