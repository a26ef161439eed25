import { describe, expect, it } from 'vitest'
import { dcgmText, type FakeGpu, vllmText } from '../../../../test/fake-provider/gpu-exporters.ts'
import { DCGM_METRICS, readGpus } from './dcgm.ts'
import { parsePrometheusText } from './prometheus-text.ts'
import { readEngines, VLLM_METRICS } from './vllm.ts'

const gpus = (...fakes: FakeGpu[]) => readGpus(parsePrometheusText(dcgmText(fakes), DCGM_METRICS))
const rows = (text: string) => readGpus(parsePrometheusText(text, DCGM_METRICS))

describe('the DCGM exporter', () => {
  it.each<[string, FakeGpu, object | undefined]>([
    [
      'the ratio of the engine comes first',
      { uuid: 'GPU-1', active: 0.123456, util: 40, watts: 212.5 },
      { busyPpm: 123_456, source: 'gr_engine_active', powerWatts: 212.5 },
    ],
    [
      'without profiling, the per cent',
      { uuid: 'GPU-1', util: 37 },
      { busyPpm: 370_000, source: 'gpu_util' },
    ],
    ['idle by both', { uuid: 'GPU-1', active: 0, util: 0 }, { busyPpm: 0, source: 'gr_engine_active' }],
    [
      'a ratio that is stuck at 0 is not believed',
      { uuid: 'GPU-1', active: 0, util: 98 },
      { busyPpm: 980_000, source: 'gpu_util' },
    ],
    ['a ratio out of its range is none', { uuid: 'GPU-1', active: 1.5, util: 50 }, { busyPpm: 500_000 }],
    ['a blank value of DCGM is none', { uuid: 'GPU-1', util: 9.223372036854776e18 }, undefined],
    ['neither is there', { uuid: 'GPU-1', watts: 50 }, undefined],
  ])('%s', (_name, gpu, expected) => {
    expect(gpus(gpu)).toMatchObject(expected === undefined ? [] : [{ gpu: 'GPU-1', ...expected }])
  })

  it('a MIG instance is a GPU of its own, and the whole GPU is not counted again', () => {
    const found = gpus(
      { uuid: 'GPU-1', active: 0.4, util: 40 },
      { uuid: 'GPU-1', active: 0.75, mig: { id: '7', profile: '1g.10gb' } },
      { uuid: 'GPU-1', active: 0.25, mig: { id: '8', profile: '1g.10gb' } },
      { uuid: 'GPU-2', active: 0.5 },
    )
    expect(found.map(({ gpu, busyPpm }) => [gpu, busyPpm])).toEqual([
      ['GPU-1/7', 750_000],
      ['GPU-1/8', 250_000],
      ['GPU-2', 500_000],
    ])
  })

  it('a GPU that pods share is one GPU', () => {
    const shared = (pod: string) =>
      `DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="GPU-1",namespace="tenants",pod="${pod}",container="ctr"} 0.968\n`
    expect(rows(shared('infer-a') + shared('infer-b'))).toMatchObject([{ gpu: 'GPU-1', busyPpm: 968_000 }])
  })

  it('a row without a UUID, or with NaN, says nothing', () => {
    expect(rows('DCGM_FI_DEV_GPU_UTIL{gpu="0"} 50\nDCGM_FI_DEV_GPU_UTIL{UUID="GPU-1"} NaN\n')).toEqual([])
  })
})

describe('a vLLM server', () => {
  const engines = (text: string) => readEngines(parsePrometheusText(text, VLLM_METRICS))

  it('has counters for every engine', () => {
    const text = vllmText([
      { model: 'llama', promptTokens: 100, generationTokens: 20, running: 3 },
      { model: 'llama', engine: 1, promptTokens: 7, generationTokens: 5 },
    ])
    expect(engines(text)).toEqual([
      { engine: '0', modelName: 'llama', inputTokensTotal: 100, outputTokensTotal: 20, runningRequests: 3 },
      { engine: '1', modelName: 'llama', inputTokensTotal: 7, outputTokensTotal: 5, runningRequests: 0 },
    ])
  })

  it('of the time before engines were numbered has one', () => {
    const text =
      'vllm:prompt_tokens_total{model_name="a"} 1.0\nvllm:generation_tokens_total{model_name="a"} 2.0\n'
    expect(engines(text)).toMatchObject([{ engine: '0', runningRequests: undefined }])
  })

  it('with one counter only says nothing', () => {
    expect(engines('vllm:prompt_tokens_total{model_name="a"} 1.0\n')).toEqual([])
    expect(
      engines(
        'vllm:prompt_tokens_total{model_name="a"} NaN\nvllm:generation_tokens_total{model_name="a"} 2.0\n',
      ),
    ).toEqual([])
  })
})
