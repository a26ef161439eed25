import { hostname } from 'node:os'
import type { HostMetadata } from '@tokentally/core'

/** Where the process runs, from what every platform puts into the environment. Reads nothing else. */
export function hostMetadata(environment: Readonly<Record<string, string | undefined>>): HostMetadata {
  const pod = environment['KUBERNETES_SERVICE_HOST'] === undefined ? undefined : environment['HOSTNAME']
  const namespace = environment['POD_NAMESPACE']
  const k8s = { ...(pod !== undefined && { pod }), ...(namespace !== undefined && { namespace }) }
  return { name: hostname(), ...(Object.keys(k8s).length > 0 && { k8s }) }
}
