import type { HostMetadata } from '@tokentally/core'
import type { Environment } from './host.ts'

/** Resource attributes by the names of OpenTelemetry's semantic conventions. */
export type ResourceAttributes = Readonly<Record<string, string>>

/** Fields of the event's `host` and the attributes that tell them, the first that is there. */
const FIELDS: readonly (readonly [field: string, attributes: readonly string[]])[] = [
  ['cloud_provider', ['cloud.provider']],
  ['instance_id', ['host.id', 'faas.instance', 'azure.container_app.instance.id', 'aws.ecs.task.arn']],
  ['region', ['cloud.region']],
  ['zone', ['cloud.availability_zone']],
  ['container', ['container.id']],
]

const K8S_FIELDS: readonly (readonly [field: string, attribute: string])[] = [
  ['pod', 'k8s.pod.name'],
  ['namespace', 'k8s.namespace.name'],
  ['node', 'k8s.node.name'],
  ['container', 'k8s.container.name'],
]

/** Longest text that an event takes. */
const TEXT_MAX = 512

/**
 * The `host` of events.
 *
 * @param surroundings what the environment says where no attribute does
 */
export function hostFrom(
  attributes: ResourceAttributes,
  surroundings: {
    readonly name: string
    readonly k8s: Readonly<Record<string, string | undefined>>
  },
): HostMetadata {
  const host: Record<string, string | Readonly<Record<string, string>>> = { name: surroundings.name }
  for (const [field, names] of FIELDS) {
    const value = names.map((name) => attributes[name]).find((text) => text)
    if (value !== undefined) host[field] = value.slice(0, TEXT_MAX)
  }
  // There, the detector's `host.id` is the name of the site.
  const siteInstance = attributes['service.instance.id']
  if (attributes['cloud.platform'] === 'azure.app_service' && siteInstance) {
    host['instance_id'] = siteInstance.slice(0, TEXT_MAX)
  }
  // A zone of Google's is its region and a letter; of the two its detector tells only one.
  const zone = host['zone']
  if (host['region'] === undefined && host['cloud_provider'] === 'gcp' && typeof zone === 'string') {
    host['region'] = zone.replace(/-[a-z]$/, '')
  }
  const k8s: Record<string, string> = {}
  for (const [field, name] of K8S_FIELDS) {
    const value = attributes[name] || surroundings.k8s[field]
    if (value) k8s[field] = value.slice(0, TEXT_MAX)
  }
  return { ...host, ...(Object.keys(k8s).length > 0 && { k8s }) }
}

/**
 * `OTEL_RESOURCE_ATTRIBUTES`: `key=value` pairs joined by commas, percent-encoded. As OpenTelemetry's
 * specification of resources says, one that is malformed is discarded as a whole.
 */
export function attributesFromEnvironment(environment: Environment): ResourceAttributes {
  const pairs = (environment['OTEL_RESOURCE_ATTRIBUTES'] ?? '')
    .split(',')
    .filter((pair) => pair.trim() !== '')
    .map((pair) => pair.split('='))
  if (pairs.some((pair) => pair.length !== 2)) return {}
  try {
    return Object.fromEntries(
      pairs.map(([name = '', value = '']) => [
        decodeURIComponent(name.trim()),
        decodeURIComponent(value.trim()),
      ]),
    )
  } catch {
    return {}
  }
}
