import { createServer, type RequestListener } from 'node:http'

/**
 * A DCGM exporter and vLLM servers that say what a test tells them, in the text of the real ones: DCGM exporter
 * 4.6 with its default counters and profiling, vLLM 0.9 with the V1 engine.
 */

/** What the fake DCGM exporter says of one GPU, or of one MIG instance of it. */
export interface FakeGpu {
  readonly uuid: string
  /** Ratio of time that the graphics engine was active; absent: the GPU has no profiling. */
  readonly active?: number
  /** Per cent; absent: not reported, as for a MIG instance. */
  readonly util?: number
  readonly watts?: number
  readonly mig?: { readonly id: string; readonly profile: string }
}

/** `GET /metrics` of the DCGM exporter. */
export function dcgmText(gpus: readonly FakeGpu[]): string {
  const labels = (gpu: FakeGpu, index: number) =>
    `gpu="${index}",UUID="${gpu.uuid}",pci_bus_id="00000000:1A:00.${index}",device="nvidia${index}",modelName="NVIDIA H100 80GB HBM3"` +
    (gpu.mig === undefined ? '' : `,GPU_I_PROFILE="${gpu.mig.profile}",GPU_I_ID="${gpu.mig.id}"`) +
    ',Hostname="gpu-node-1",DCGM_FI_DRIVER_VERSION="580.95.05"'
  const family = (name: string, help: string, type: string, value: (gpu: FakeGpu) => string | undefined) => {
    const rows = gpus.flatMap((gpu, index) => {
      const text = value(gpu)
      return text === undefined ? [] : [`${name}{${labels(gpu, index)}} ${text}\n`]
    })
    return rows.length === 0 ? '' : `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${rows.join('')}`
  }
  return (
    family('DCGM_FI_DEV_SM_CLOCK', 'SM clock frequency (in MHz).', 'gauge', () => '1980') +
    family('DCGM_FI_DEV_POWER_USAGE', 'Power draw (in W).', 'gauge', (gpu) => gpu.watts?.toFixed(6)) +
    family('DCGM_FI_DEV_GPU_UTIL', 'GPU utilization (in %).', 'gauge', (gpu) => gpu.util?.toString()) +
    family('DCGM_FI_PROF_GR_ENGINE_ACTIVE', 'Ratio of time the graphics engine is active.', 'gauge', (gpu) =>
      gpu.active?.toFixed(6),
    )
  )
}

/** What the fake vLLM server says of one engine. */
export interface FakeEngine {
  readonly model: string
  readonly engine?: number
  readonly promptTokens: number
  readonly generationTokens: number
  readonly running?: number
}

/** `GET /metrics` of a vLLM server, as prometheus_client prints it: floats, CREATED rows, a histogram beside. */
export function vllmText(engines: readonly FakeEngine[]): string {
  const labels = (engine: FakeEngine) => `engine="${engine.engine ?? 0}",model_name="${engine.model}"`
  const float = (value: number) => (Number.isInteger(value) ? `${value}.0` : String(value))
  const family = (name: string, help: string, type: string, value: (engine: FakeEngine) => number) =>
    `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n` +
    engines.map((engine) => `${name}{${labels(engine)}} ${float(value(engine))}\n`).join('')
  return (
    '# HELP python_info Python platform information\n# TYPE python_info gauge\n' +
    'python_info{implementation="CPython",major="3",minor="12",patchlevel="11",version="3.12.11"} 1.0\n' +
    family(
      'vllm:num_requests_running',
      'Number of requests in model execution batches.',
      'gauge',
      (engine) => engine.running ?? 0,
    ) +
    family(
      'vllm:prompt_tokens_total',
      'Number of prefill tokens processed.',
      'counter',
      (engine) => engine.promptTokens,
    ) +
    family(
      'vllm:prompt_tokens_created',
      'Number of prefill tokens processed.',
      'gauge',
      () => 1764123456.789,
    ) +
    family(
      'vllm:generation_tokens_total',
      'Number of generation tokens processed.',
      'counter',
      (engine) => engine.generationTokens,
    ) +
    '# HELP vllm:e2e_request_latency_seconds Histogram of e2e request latency in seconds.\n' +
    '# TYPE vllm:e2e_request_latency_seconds histogram\n' +
    engines
      .map((engine) => `vllm:e2e_request_latency_seconds_bucket{${labels(engine)},le="+Inf"} 3.0\n`)
      .join('')
  )
}

/** A server on a free port of this machine. */
export interface FakeExporter {
  /** Of its metrics. */
  readonly url: string
  /** How often it was asked. */
  asked(): number
  /** From now on it answers this, with status 200. */
  say(text: string): void
  /** From now on it answers like this. */
  answer(listener: RequestListener): void
  stop(): Promise<void>
}

/** Starts an exporter; until told otherwise it answers 503. */
export async function startFakeExporter(): Promise<FakeExporter> {
  let asked = 0
  let listener: RequestListener = (_request, response) => response.writeHead(503).end()
  const server = createServer((request, response) => {
    asked++
    listener(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the exporter has no port')
  return {
    url: `http://127.0.0.1:${address.port}/metrics`,
    asked: () => asked,
    say(text) {
      listener = (_request, response) =>
        response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text)
    },
    answer(next) {
      listener = next
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
