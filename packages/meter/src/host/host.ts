import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { Worker } from 'node:worker_threads'
import { diag } from '@opentelemetry/api'
import type { HostMetadata } from '@tokentally/core'
import { type CloudHints, cloudHints, readMachine } from './hints.ts'
import { attributesFromEnvironment, hostFrom, type ResourceAttributes } from './host-attributes.ts'

/**
 * Where the process runs. What the environment says is known at once. What only the cloud's metadata service
 * knows is asked for in the background, once, by OpenTelemetry's resource detectors in a thread of their own:
 * loading them does not hold up the app, nothing there is tapped or traced, and a service that does not answer
 * neither keeps the process alive nor says anything. Events carry what is known by the time they are made.
 */

export type Environment = Readonly<Record<string, string | undefined>>

/** The detectors have timeouts of one to five seconds; what takes longer is broken. */
const DETECTION_MAX_MS = 15_000

export interface HostDetection {
  /** What is known by now. */
  readonly current: HostMetadata
  /** Settled when nothing further will be learned; never rejected. */
  readonly done: Promise<void>
  stop(): void
}

/** What the thread reports: attributes as a detector finds them, then how many detectors failed. */
export type DetectionMessage = { readonly found: ResourceAttributes } | { readonly failed: number }

export interface DetectionRequest {
  readonly hints: CloudHints
}

/**
 * @param isDetecting false: the environment alone is read
 */
export function detectHost(environment: Environment, isDetecting: boolean): HostDetection {
  const given = attributesFromEnvironment(environment)
  const surroundings = { name: hostname(), k8s: kubernetes(environment) }
  let found: ResourceAttributes = {}
  let current = hostFrom(given, surroundings)
  const done = Promise.withResolvers<void>()
  let stop = done.resolve

  const start = () => {
    const hints = cloudHints(environment, readMachine())
    if (hints.clouds.length === 0) return done.resolve()
    const request: DetectionRequest = { hints }
    const worker = new Worker(workerUrl(), {
      workerData: request,
      // What the app's own start preloads is not for this thread.
      execArgv: [],
      env: workerEnvironment(environment),
      // Kept from the app's own output.
      stdout: true,
      stderr: true,
    })
    const timeout = setTimeout(() => void worker.terminate(), DETECTION_MAX_MS).unref()
    stop = () => void worker.terminate()
    worker.on('message', (message: DetectionMessage) => {
      if ('failed' in message) {
        if (message.failed > 0) diag.debug(`@tokentally/meter: ${message.failed} host detectors failed`)
        return
      }
      found = { ...found, ...message.found }
      // What the operator says of the host goes before what the host says of itself.
      current = hostFrom({ ...found, ...given }, surroundings)
    })
    worker.on('error', () => diag.debug('@tokentally/meter: the host could not be detected'))
    worker.on('exit', () => {
      clearTimeout(timeout)
      done.resolve()
    })
    // Last: a listener for messages would hold the process again.
    worker.unref()
  }

  if (!isDetecting || isKnown(given)) done.resolve()
  // After whatever the app does in this turn; an app that ends before then need not know.
  else {
    const beginning = setTimeout(() => {
      try {
        start()
      } catch {
        diag.debug('@tokentally/meter: the host could not be detected')
        done.resolve()
      }
    }, 0).unref()
    stop = () => {
      clearTimeout(beginning)
      done.resolve()
    }
  }
  return {
    get current() {
      return current
    },
    done: done.promise,
    stop: () => stop(),
  }
}

/** The operator has said it all. */
function isKnown(given: ResourceAttributes): boolean {
  return ['cloud.provider', 'cloud.region', 'host.id'].every((name) => given[name] !== undefined)
}

const NAMESPACE_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace'

function kubernetes(environment: Environment): Readonly<Record<string, string | undefined>> {
  if (environment['KUBERNETES_SERVICE_HOST'] === undefined) return {}
  return {
    pod: environment['POD_NAME'] ?? environment['HOSTNAME'],
    namespace: environment['POD_NAMESPACE'] ?? namespaceOfAccount(),
    node: environment['NODE_NAME'],
    container: environment['CONTAINER_NAME'],
  }
}

function namespaceOfAccount(): string | undefined {
  try {
    return readFileSync(NAMESPACE_FILE, 'utf8').trim() || undefined
  } catch {
    // Not mounted: then it is not known.
    return undefined
  }
}

/** The thread stands beside this file under the same extension, as source and as what is published. */
function workerUrl(): URL {
  return new URL(`./detection-worker.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url)
}

const GOOGLE_METADATA_ADDRESS = '169.254.169.254'

function workerEnvironment(environment: Environment): Record<string, string | undefined> {
  const given = environment['GCE_METADATA_IP'] ?? environment['GCE_METADATA_HOST']
  return {
    ...environment,
    NODE_OPTIONS: '',
    // Without it a name is looked up as well, and a thread that waits for a name server cannot be ended.
    ...(given === undefined && { GCE_METADATA_IP: GOOGLE_METADATA_ADDRESS }),
  }
}
