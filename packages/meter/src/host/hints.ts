import { readFileSync } from 'node:fs'
import type { Environment } from './host.ts'

/**
 * Which clouds the process may be in, from what lies on the machine. Asking an address that nobody serves costs
 * a timeout, and on a network of one's own it is a packet to a stranger: without a hint nothing is asked.
 *
 * Hints are the variables that a platform puts into the environment (Lambda, ECS, App Engine, Cloud Run, App
 * Service, Container Apps), and on Linux the firmware's names of the machine. A pod that cannot read these names
 * (in a sandbox such as gVisor) may be anywhere; one that can, and finds no cloud's, is in none.
 */

export type Cloud = 'aws' | 'gcp' | 'azure'

export interface CloudHints {
  readonly clouds: readonly Cloud[]
  /** Whether a virtual machine's own metadata service is worth asking: there is none behind a function. */
  readonly isMachine: boolean
}

/** What the firmware or the hypervisor calls the machine. */
export interface Machine {
  /** False: there is nothing to read, which says nothing. */
  readonly isReadable: boolean
  readonly names: Readonly<Record<string, string>>
}

/** Azure's own; a Hyper-V of anybody else has another tag. See cloud-init, DataSourceAzure. */
const AZURE_CHASSIS_TAG = '7783-7084-3265-9085-8269-3286-77'

const VARIABLES: readonly (readonly [cloud: Cloud, names: readonly string[], isMachine: boolean])[] = [
  ['aws', ['AWS_LAMBDA_FUNCTION_NAME'], false],
  ['aws', ['ECS_CONTAINER_METADATA_URI_V4', 'ECS_CONTAINER_METADATA_URI', 'AWS_EXECUTION_ENV'], false],
  ['gcp', ['K_SERVICE', 'GAE_SERVICE', 'FUNCTION_TARGET'], false],
  ['gcp', ['GCE_METADATA_HOST', 'GCE_METADATA_IP'], true],
  ['azure', ['WEBSITE_SITE_NAME', 'CONTAINER_APP_NAME', 'FUNCTIONS_WORKER_RUNTIME'], false],
]

export function cloudHints(environment: Environment, machine: Machine): CloudHints {
  const byVariable = VARIABLES.filter(([, names]) => names.some((name) => environment[name]))
  const byName = cloudOf(machine)
  if (byName !== undefined) {
    return {
      clouds: [...new Set([byName, ...byVariable.map(([cloud]) => cloud)])],
      // Behind Fargate and Lambda is a machine of Amazon's that tells them nothing.
      isMachine: !/^AWS_(ECS_FARGATE|Lambda)/.test(environment['AWS_EXECUTION_ENV'] ?? ''),
    }
  }
  if (byVariable.length > 0) {
    return {
      clouds: [...new Set(byVariable.map(([cloud]) => cloud))],
      isMachine: byVariable.some(([, , isMachine]) => isMachine),
    }
  }
  const isSomewhere = environment['KUBERNETES_SERVICE_HOST'] !== undefined && !machine.isReadable
  return { clouds: isSomewhere ? ['aws', 'gcp', 'azure'] : [], isMachine: isSomewhere }
}

function cloudOf({ names }: Machine): Cloud | undefined {
  const { sys_vendor: vendor = '', bios_vendor: bios = '', product_name: product = '' } = names
  if (/^Amazon EC2/.test(vendor) || /^Amazon EC2/.test(bios) || /^ec2/i.test(names['hypervisor_uuid'] ?? ''))
    return 'aws'
  if (/^Google/.test(product) || /^Google/.test(vendor)) return 'gcp'
  if (names['chassis_asset_tag'] === AZURE_CHASSIS_TAG) return 'azure'
  return undefined
}

const DMI_DIRECTORY = '/sys/class/dmi/id'
const FILES = {
  sys_vendor: `${DMI_DIRECTORY}/sys_vendor`,
  bios_vendor: `${DMI_DIRECTORY}/bios_vendor`,
  product_name: `${DMI_DIRECTORY}/product_name`,
  chassis_asset_tag: `${DMI_DIRECTORY}/chassis_asset_tag`,
  // EC2 on Xen has no names of its own.
  hypervisor_uuid: '/sys/hypervisor/uuid',
}

/** Reads a few bytes that the kernel has at hand. */
export function readMachine(): Machine {
  const names: Record<string, string> = {}
  for (const [name, path] of Object.entries(FILES)) {
    try {
      names[name] = readFileSync(path, 'utf8').trim()
    } catch {
      // Another system, or a sandbox that hides it.
    }
  }
  return { isReadable: names['sys_vendor'] !== undefined, names }
}
