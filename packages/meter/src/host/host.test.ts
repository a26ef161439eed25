import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http, { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { detect } from './detectors.ts'
import { type Cloud, type CloudHints, cloudHints, type Machine } from './hints.ts'
import { detectHost } from './host.ts'
import { attributesFromEnvironment, hostFrom, type ResourceAttributes } from './host-attributes.ts'

const servers: Server[] = []
const directories: string[] = []
const children: ChildProcess[] = []

afterEach(() => {
  vi.restoreAllMocks()
  for (const child of children.splice(0)) child.kill()
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true })
})

/** @returns `HOST:PORT` */
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return `127.0.0.1:${port}`
}

/** Google's metadata service, as its documentation shows it. */
const google: RequestListener = (request, response) => {
  const values: Readonly<Record<string, string>> = {
    '/computeMetadata/v1/instance': 'attributes/\nid\nzone\n',
    '/computeMetadata/v1/project/project-id': 'acme-prod',
    '/computeMetadata/v1/instance/zone': 'projects/123456/zones/europe-west1-b',
    '/computeMetadata/v1/instance/machine-type': 'projects/123456/machineTypes/e2-small',
    '/computeMetadata/v1/instance/id': '4520031799277581759',
    '/computeMetadata/v1/instance/name': 'vm-1',
    '/computeMetadata/v1/instance/attributes/cluster-name': 'main',
    '/computeMetadata/v1/instance/attributes/cluster-location': 'europe-west1-b',
  }
  const value = request.headers['metadata-flavor'] === 'Google' ? values[request.url ?? ''] : undefined
  response.writeHead(value === undefined ? 404 : 200, { 'metadata-flavor': 'Google' })
  response.end(value)
}

describe('asked of the metadata service', () => {
  test('Compute Engine tells provider, instance, region and zone', async () => {
    const detection = detectHost({ GCE_METADATA_HOST: await serve(google) }, true)
    expect(detection.current).toEqual({ name: hostname() })
    await detection.done
    expect(detection.current).toEqual({
      name: hostname(),
      cloud_provider: 'gcp',
      instance_id: '4520031799277581759',
      region: 'europe-west1',
      zone: 'europe-west1-b',
    })
  })

  test('a pod of GKE keeps its own names, and what the operator says goes before', async () => {
    const detection = detectHost(
      {
        GCE_METADATA_HOST: await serve(google),
        KUBERNETES_SERVICE_HOST: '10.0.0.1',
        HOSTNAME: 'shop-7d9f-x2x',
        POD_NAMESPACE: 'shop',
        NODE_NAME: 'node-3',
        OTEL_RESOURCE_ATTRIBUTES: 'cloud.region=eu%2Dhere,k8s.pod.name=shop-0',
      },
      true,
    )
    await detection.done
    expect(detection.current).toEqual({
      name: hostname(),
      cloud_provider: 'gcp',
      instance_id: '4520031799277581759',
      region: 'eu-here',
      zone: 'europe-west1-b',
      k8s: { pod: 'shop-0', namespace: 'shop', node: 'node-3' },
    })
  })

  test('a task of ECS tells its region, zone and container', async () => {
    const arn = 'arn:aws:ecs:us-west-2:111122223333:task/default/158d1c8083dd49d6b527399fd6414f5c'
    const endpoint = await serve((request, response) => {
      const isTask = request.url === '/v4/abc/task'
      response.end(
        JSON.stringify(
          isTask
            ? {
                Cluster: 'default',
                TaskARN: arn,
                Family: 'shop',
                Revision: '5',
                LaunchType: 'FARGATE',
                AvailabilityZone: 'us-west-2d',
              }
            : {
                ContainerARN: 'arn:aws:ecs:us-west-2:111122223333:container/05966557-f16c-49cb',
                LogDriver: 'json-file',
              },
        ),
      )
    })
    const detection = detectHost(
      { AWS_EXECUTION_ENV: 'AWS_ECS_FARGATE', ECS_CONTAINER_METADATA_URI_V4: `http://${endpoint}/v4/abc` },
      true,
    )
    await detection.done
    expect(detection.current).toMatchObject({
      cloud_provider: 'aws',
      region: 'us-west-2',
      zone: 'us-west-2d',
      instance_id: arn,
    })
  })

  /** Their address is fixed: what goes to it is sent to the fake. */
  async function detectMachine(cloud: Cloud, listener: RequestListener): Promise<ResourceAttributes> {
    const [address, port] = (await serve(listener)).split(':')
    const request = http.request
    vi.spyOn(http, 'request').mockImplementation((options: unknown, ...more: unknown[]) => {
      expect(options).toMatchObject({ host: '169.254.169.254' })
      return Reflect.apply(request, http, [{ ...Object(options), host: address, port }, ...more])
    })
    const found: ResourceAttributes[] = []
    expect(await detect({ clouds: [cloud], isMachine: true }, (attributes) => found.push(attributes))).toBe(0)
    return found[0] ?? {}
  }
  const surroundings = { name: 'n', k8s: {} }

  test('EC2 tells provider, instance, region and zone', async () => {
    const attributes = await detectMachine('aws', (request, response) => {
      if (request.method === 'PUT' && request.url === '/latest/api/token') return response.end('token')
      if (request.headers['x-aws-ec2-metadata-token'] !== 'token') return response.writeHead(401).end()
      if (request.url === '/latest/meta-data/hostname') return response.end('ip-10-0-0-1.ec2.internal')
      return response.end(
        JSON.stringify({
          accountId: '111122223333',
          instanceId: 'i-0abc',
          instanceType: 't3.small',
          region: 'us-east-1',
          availabilityZone: 'us-east-1a',
        }),
      )
    })
    expect(hostFrom(attributes, surroundings)).toEqual({
      name: 'n',
      cloud_provider: 'aws',
      instance_id: 'i-0abc',
      region: 'us-east-1',
      zone: 'us-east-1a',
    })
  })

  test('a virtual machine of Azure tells provider, instance and region', async () => {
    const attributes = await detectMachine('azure', (request, response) => {
      if (request.headers['metadata'] !== 'True') return response.writeHead(400).end()
      return response.end(JSON.stringify({ location: 'westeurope', vmId: '02aab8a4', name: 'vm-1' }))
    })
    expect(hostFrom(attributes, surroundings)).toEqual({
      name: 'n',
      cloud_provider: 'azure',
      instance_id: '02aab8a4',
      region: 'westeurope',
    })
  })

  test('nonsense is no host', async () => {
    expect(await detectMachine('aws', (_request, response) => response.end('<html>'))).toEqual({})
    const detection = detectHost(
      { GCE_METADATA_HOST: await serve((_request, response) => response.end('<html>')) },
      true,
    )
    await detection.done
    expect(detection.current).toEqual({ name: hostname() })
  })
})

test('what the platform puts into the environment needs no asking', async () => {
  const detection = detectHost(
    {
      WEBSITE_SITE_NAME: 'shop',
      WEBSITE_INSTANCE_ID: 'a1',
      WEBSITE_HOSTNAME: 'shop.example',
      REGION_NAME: 'westeurope',
    },
    true,
  )
  await detection.done
  expect(detection.current).toMatchObject({
    cloud_provider: 'azure',
    region: 'westeurope',
    instance_id: 'a1',
  })
})

test('nothing is asked when the app forbids it, or the operator has said it all', async () => {
  let asked = 0
  const address = await serve((_request, response) => {
    asked += 1
    response.end()
  })
  const all = 'cloud.provider=aws,cloud.region=us-east-1,host.id=i-1,cloud.availability_zone=us-east-1a'
  const forbidden = detectHost({ GCE_METADATA_HOST: address }, false)
  const said = detectHost({ GCE_METADATA_HOST: address, OTEL_RESOURCE_ATTRIBUTES: all }, true)
  await Promise.all([forbidden.done, said.done])
  expect(asked).toBe(0)
  expect(forbidden.current).toEqual({ name: hostname() })
  expect(said.current).toEqual({
    name: hostname(),
    cloud_provider: 'aws',
    region: 'us-east-1',
    instance_id: 'i-1',
    zone: 'us-east-1a',
  })
})

describe('whom to ask', () => {
  const dell: Machine = {
    isReadable: true,
    names: { sys_vendor: 'Dell Inc.', product_name: 'PowerEdge R640' },
  }
  const hidden: Machine = { isReadable: false, names: {} }
  const named = (names: Record<string, string>): Machine => ({ isReadable: true, names })
  const azureTag = '7783-7084-3265-9085-8269-3286-77'
  const cases: readonly [
    what: string,
    environment: Record<string, string>,
    machine: Machine,
    hints: CloudHints,
  ][] = [
    ['a machine of one’s own', {}, dell, { clouds: [], isMachine: false }],
    ['a laptop that hides its names', {}, hidden, { clouds: [], isMachine: false }],
    [
      'a cluster of one’s own',
      { KUBERNETES_SERVICE_HOST: '10.0.0.1' },
      dell,
      { clouds: [], isMachine: false },
    ],
    [
      'a pod in a sandbox',
      { KUBERNETES_SERVICE_HOST: '10.0.0.1' },
      hidden,
      { clouds: ['aws', 'gcp', 'azure'], isMachine: true },
    ],
    ['EC2', {}, named({ sys_vendor: 'Amazon EC2' }), { clouds: ['aws'], isMachine: true }],
    [
      'EC2 on Xen',
      {},
      { isReadable: false, names: { hypervisor_uuid: 'ec2e1916-9099' } },
      { clouds: ['aws'], isMachine: true },
    ],
    [
      'Fargate',
      { AWS_EXECUTION_ENV: 'AWS_ECS_FARGATE' },
      named({ sys_vendor: 'Amazon EC2' }),
      { clouds: ['aws'], isMachine: false },
    ],
    ['Lambda', { AWS_LAMBDA_FUNCTION_NAME: 'f' }, hidden, { clouds: ['aws'], isMachine: false }],
    [
      'Compute Engine',
      {},
      named({ product_name: 'Google Compute Engine' }),
      { clouds: ['gcp'], isMachine: true },
    ],
    ['Cloud Run', { K_SERVICE: 's' }, hidden, { clouds: ['gcp'], isMachine: false }],
    [
      'Azure',
      {},
      named({ sys_vendor: 'Microsoft Corporation', chassis_asset_tag: azureTag }),
      { clouds: ['azure'], isMachine: true },
    ],
    [
      'Hyper-V of one’s own',
      {},
      named({ sys_vendor: 'Microsoft Corporation' }),
      { clouds: [], isMachine: false },
    ],
    ['App Service', { WEBSITE_SITE_NAME: 's' }, hidden, { clouds: ['azure'], isMachine: false }],
  ]
  test.each(cases)('%s', (_what, environment, machine, hints) => {
    expect(cloudHints(environment, machine)).toEqual(hints)
  })
})

test.each([
  ['a=b,c=d%2Ce', { a: 'b', c: 'd,e' }],
  [' a = b ,', { a: 'b' }],
  ['a=b,c', {}],
  ['a=%', {}],
  ['', {}],
])('OTEL_RESOURCE_ATTRIBUTES=%s', (text, attributes) => {
  expect(attributesFromEnvironment({ OTEL_RESOURCE_ATTRIBUTES: text })).toEqual(attributes)
})

/** Runs a program of the app's kind. */
function runApp(program: string, environment: Record<string, string>) {
  const directory = mkdtempSync(join(tmpdir(), 'tokentally-host-'))
  directories.push(directory)
  const file = join(directory, 'app.ts')
  writeFileSync(file, program)
  const child = spawn(process.execPath, ['--conditions=source', file], {
    env: { PATH: process.env['PATH'], ...environment },
    cwd: directory,
  })
  children.push(child)
  const seen = { out: '', err: '' }
  child.stdout.on('data', (chunk) => {
    seen.out += String(chunk)
  })
  child.stderr.on('data', (chunk) => {
    seen.err += String(chunk)
  })
  return { child, seen }
}
const moduleUrl = (path: string) => JSON.stringify(fileURLToPath(new URL(path, import.meta.url)))

test('an app ends by itself, and says nothing, while the metadata service keeps it waiting', async () => {
  const isAsked = Promise.withResolvers<void>()
  const address = await serve(() => isAsked.resolve())
  const { child, seen } = runApp(
    `import { detectHost } from ${moduleUrl('./host.ts')}
    const detection = detectHost(process.env, true)
    console.log('started')
    let isDone = false
    detection.done.then(() => { isDone = true })
    process.stdin.resume().on('close', () => {
      const held = process.getActiveResourcesInfo().filter((name) => !/Pipe|TTY/.test(name))
      console.log('held by', held)
    })
    process.on('exit', () => console.log(isDone ? 'waited' : 'left'))`,
    { GCE_METADATA_HOST: address },
  )
  const exit = once(child, 'close')
  await isAsked.promise
  // From here on nothing but the question keeps the app alive.
  child.stdin.end()
  expect(await exit).toEqual([0, null])
  expect(seen).toEqual({ out: 'started\nheld by []\nleft\n', err: '' })
})

test('events carry the host once it is known', async () => {
  const provider = await serve((_request, response) => {
    response.setHeader('content-type', 'application/json')
    response.end(
      JSON.stringify({
        id: 'x',
        object: 'chat.completion',
        model: 'gpt-4o-mini',
        choices: [],
        usage: { prompt_tokens: 5, completion_tokens: 1, total_tokens: 6 },
      }),
    )
  })
  const { child, seen } = runApp(
    `import { start, shutdown } from ${moduleUrl('../index.ts')}
    import { openLocalReader } from ${moduleUrl('../local/index.ts')}
    start({ endpoints: 'http://${provider}/v1=openai' })
    const hosts = new Set()
    while (hosts.size < 2) {
      const body = JSON.stringify({ model: 'gpt-4o-mini', messages: [] })
      await (await fetch('http://${provider}/v1/chat/completions', { method: 'POST', body })).json()
      const reader = openLocalReader('.tokentally/usage.sqlite')
      for await (const { event } of reader.events({ startMs: 0, endMs: Date.now() + 1000 })) hosts.add(event.host.cloud_provider)
      reader.close()
    }
    console.log([...hosts])
    await shutdown()`,
    { GCE_METADATA_HOST: await serve(google) },
  )
  await once(child, 'close')
  expect(seen).toEqual({ out: "[ undefined, 'gcp' ]\n", err: '' })
})
