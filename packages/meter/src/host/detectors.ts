import type { ResourceDetector } from '@opentelemetry/resources'
import type { Cloud, CloudHints } from './hints.ts'
import type { ResourceAttributes } from './host-attributes.ts'

/**
 * OpenTelemetry's detectors for the clouds that the hints name, each package loaded if it is needed. Left out is
 * the one for EKS: it reads config maps of the cluster, and tells nothing that the pod's environment does not.
 */
async function detectorsFor(cloud: Cloud, isMachine: boolean): Promise<readonly ResourceDetector[]> {
  switch (cloud) {
    case 'aws': {
      const aws = await import('@opentelemetry/resource-detector-aws')
      return [aws.awsLambdaDetector, aws.awsEcsDetector, ...(isMachine ? [aws.awsEc2Detector] : [])]
    }
    case 'gcp':
      return [(await import('@opentelemetry/resource-detector-gcp')).gcpDetector]
    case 'azure': {
      const azure = await import('@opentelemetry/resource-detector-azure')
      return [
        azure.azureFunctionsDetector,
        azure.azureContainerAppsDetector,
        azure.azureAppServiceDetector,
        ...(isMachine ? [azure.azureVmDetector] : []),
      ]
    }
  }
}

/**
 * Asks the detectors, all at once.
 *
 * @param found told of what each cloud's detectors found, when they are done; not of a cloud where they found nothing
 * @returns how many detectors failed
 */
export async function detect(
  { clouds, isMachine }: CloudHints,
  found: (attributes: ResourceAttributes) => void,
): Promise<number> {
  const failures = await Promise.all(
    clouds.map(async (cloud) => {
      let failed = 0
      const results = await Promise.all(
        (await detectorsFor(cloud, isMachine)).map(async (detector) => {
          try {
            return await attributesOf(detector)
          } catch {
            failed += 1
            return {}
          }
        }),
      )
      // What runs on a machine knows better than the machine: the earlier detectors go before the later ones.
      const attributes = Object.assign({}, ...results.toReversed())
      if (attributes['cloud.provider'] !== undefined) found(attributes)
      return failed
    }),
  )
  return failures.reduce((sum, failed) => sum + failed, 0)
}

/** @throws whatever the detector does; attributes that it does not find are left out */
async function attributesOf(detector: ResourceDetector): Promise<ResourceAttributes> {
  const entries = await Promise.all(
    Object.entries(detector.detect().attributes ?? {}).map(
      async ([name, value]) => [name, await value] as const,
    ),
  )
  return Object.fromEntries(
    entries.flatMap(([name, value]) => (typeof value === 'string' && value !== '' ? [[name, value]] : [])),
  )
}
