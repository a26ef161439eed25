import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dcgmText, vllmText } from '../../../../test/fake-provider/gpu-exporters.ts'
import { PrometheusTextError, parsePrometheusText } from './prometheus-text.ts'

const all = (text: string, ...names: string[]) =>
  parsePrometheusText(text, new Set(names)).map(({ name, labels, value }) => ({
    name,
    labels: Object.fromEntries(labels),
    value,
  }))

describe('the text format of Prometheus', () => {
  it('is read as its documentation shows it', () => {
    // "Text format example", prometheus.io/docs/instrumenting/exposition_formats, shortened.
    const text = `# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\\\DIR\\\\FILE.TXT",error="Cannot find file:\\n\\"FILE.TXT\\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045
rpc_duration_seconds{quantile="0.01"} 3102
rpc_duration_seconds_sum 1.7560473e+07
`
    expect(
      all(
        text,
        'http_requests_total',
        'msdos_file_access_time_seconds',
        'metric_without_timestamp_and_labels',
        'something_weird',
        'rpc_duration_seconds_sum',
      ),
    ).toEqual([
      { name: 'http_requests_total', labels: { method: 'post', code: '200' }, value: 1027 },
      { name: 'http_requests_total', labels: { method: 'post', code: '400' }, value: 3 },
      {
        name: 'msdos_file_access_time_seconds',
        labels: { path: 'C:\\DIR\\FILE.TXT', error: 'Cannot find file:\n"FILE.TXT"' },
        value: 1458255915,
      },
      { name: 'metric_without_timestamp_and_labels', labels: {}, value: 12.47 },
      { name: 'something_weird', labels: { problem: 'division by zero' }, value: Number.POSITIVE_INFINITY },
      { name: 'rpc_duration_seconds_sum', labels: {}, value: 17560473 },
    ])
  })

  it.each([
    ['a 1\r\nb 2\r\n', 'lines that end with CRLF'],
    ['a 1\nb 2', 'a last line without an end'],
    ['a{} 1\n\n \t\nb{ } 2\n', 'no labels in braces, blank lines'],
    ['a 1 # {trace_id="x"} 0.5 1.2\nb{} 2 17 # {} 1\n# EOF\n', 'exemplars and the end of OpenMetrics'],
  ])('%j: %s', (text) => {
    expect(all(text, 'a', 'b').map(({ name, value }) => [name, value])).toEqual([
      ['a', 1],
      ['b', 2],
    ])
  })

  it.each([
    ['NaN', Number.NaN],
    ['nan', Number.NaN],
    ['Inf', Number.POSITIVE_INFINITY],
    ['-Inf', Number.NEGATIVE_INFINITY],
    ['.5', 0.5],
    ['5.', 5],
    ['-1E-3', -0.001],
  ])('the value %s', (text, value) => {
    expect(all(`a ${text}`, 'a')[0]?.value).toBe(value)
  })

  it('a closing brace, a comma and a # in a label are its own', () => {
    expect(all('a{x="}",y=",",z=" # ",} 1', 'a')[0]?.labels).toEqual({ x: '}', y: ',', z: ' # ' })
  })

  it.each([
    ['a 1\n1a 2', 'line 2: does not begin with the name of a metric'],
    ['<html>', 'line 1: does not begin with'],
    ['a', 'has no value'],
    ['a{x="1"}', 'has no value'],
    ['a{x="1} 1', 'does not end the value of the label x'],
    ['a{x=1} 1', 'has no quoted value of the label x'],
    ['a{x} 1', 'has no = after the label x'],
    ['a{="1"} 1', 'has a label without a name'],
    ['a{x="1" y="2"} 1', 'does not end its labels'],
    ['a{x="1",x="2"} 1', 'has the label x twice'],
    ['a one', 'has a value that is no number'],
    ['a 0x10', 'has a value that is no number'],
    ['a 1 2 3', 'has no value'],
  ])('%j is refused', (text, complaint) => {
    expect(() => all(text, 'b')).toThrow(PrometheusTextError)
    expect(() => all(text, 'b')).toThrow(complaint)
  })

  it('reads back any labels and values that were written by its rules', () => {
    const labelName = fc.stringMatching(/^[a-zA-Z_][a-zA-Z0-9_]{0,10}$/)
    const sample = fc.record({
      name: fc.stringMatching(/^[a-zA-Z_:][a-zA-Z0-9_:]{0,10}$/),
      labels: fc.dictionary(labelName, fc.string({ unit: 'binary' }), { noNullPrototype: true }),
      value: fc.double(),
    })
    const quoted = (text: string) =>
      `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`
    fc.assert(
      fc.property(fc.array(sample, { maxLength: 5 }), fc.constantFrom('\n', '\r\n'), (samples, end) => {
        const text = samples
          .map(({ name, labels, value }) => {
            const pairs = Object.entries(labels).map(([key, text]) => `${key}=${quoted(text)}`)
            const number = String(value).replace('Infinity', 'Inf')
            return `${name}{${pairs.join(',')}} ${number}${end}`
          })
          .join('')
        const read = parsePrometheusText(text, new Set(samples.map(({ name }) => name)))
        expect(read.map(({ name, labels, value }) => ({ name, labels: [...labels], value }))).toEqual(
          samples.map(({ name, labels, value }) => ({
            name,
            labels: Object.entries(labels),
            value: value + 0,
          })),
        )
      }),
    )
  })

  it('any text is read or refused, never anything else', () => {
    const near = fc.string({
      unit: fc.constantFrom('a', '{', '}', '=', '"', ',', ' ', '1', '\\', '\n', '#', '.'),
    })
    fc.assert(
      fc.property(fc.oneof(near, fc.string({ unit: 'binary' })), (text) => {
        try {
          parsePrometheusText(text, new Set(['a']))
        } catch (error) {
          expect(error).toBeInstanceOf(PrometheusTextError)
        }
      }),
      { numRuns: 2_000 },
    )
  })

  it('ten megabytes of one line, or of many, are read in one pass', () => {
    const long = 'x'.repeat(10 * 1024 * 1024)
    expect(all(`a{x="${long}"} 1`, 'a')).toHaveLength(1)
    expect(() => all(`a{x="${long}`, 'a')).toThrow('does not end the value')
    expect(() => all(`a ${' '.repeat(10 * 1024 * 1024)}b c`, 'a')).toThrow(PrometheusTextError)
    expect(all('a{x="1"} 1\n'.repeat(900_000), 'b')).toEqual([])
  })

  it('reads what the exporters say', () => {
    const dcgm = dcgmText([{ uuid: 'GPU-1', active: 0.25, util: 25, watts: 300 }])
    expect(all(dcgm, 'DCGM_FI_PROF_GR_ENGINE_ACTIVE')).toMatchObject([
      { labels: { UUID: 'GPU-1', modelName: 'NVIDIA H100 80GB HBM3' }, value: 0.25 },
    ])
    const vllm = vllmText([{ model: 'a/b', promptTokens: 26560, generationTokens: 84213 }])
    expect(all(vllm, 'vllm:prompt_tokens_total')).toEqual([
      { name: 'vllm:prompt_tokens_total', labels: { engine: '0', model_name: 'a/b' }, value: 26560 },
    ])
  })
})
