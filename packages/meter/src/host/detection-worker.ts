import { parentPort, workerData } from 'node:worker_threads'
import { detect } from './detectors.ts'
import type { DetectionMessage, DetectionRequest } from './host.ts'

/** The thread in which the host is detected; see host.ts. */

const { hints }: DetectionRequest = workerData
const tell = (message: DetectionMessage) => parentPort?.postMessage(message)
const failed = await detect(hints, (found) => tell({ found }))
tell({ failed })
// Sockets that a detector left open would keep the thread.
process.exit()
