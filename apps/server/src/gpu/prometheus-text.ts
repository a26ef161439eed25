/**
 * Reads the Prometheus text exposition format, version 0.0.4, strictly: one line that is no sample and no comment
 * fails the whole, as it does in Prometheus, because half an answer would look like GPUs that went away. What
 * OpenMetrics adds (exemplars, `# EOF`) is passed over.
 *
 * Source: "Exposition formats", prometheus.io/docs/instrumenting/exposition_formats, read 2026-11-24. No package:
 * `parse-prometheus-text-format` 1.1.1 was last built with the tools of 2019 and brings a dependency of its own.
 */

/** One sample of a metric. */
export interface MetricSample {
  readonly name: string
  readonly labels: ReadonlyMap<string, string>
  /** May be NaN or infinite, as the format allows. */
  readonly value: number
}

/** A line that the format does not know. The text of the line is not repeated. */
export class PrometheusTextError extends Error {
  override readonly name = 'PrometheusTextError'

  constructor(line: number, complaint: string) {
    super(`line ${line}: ${complaint}`)
  }
}

/**
 * The samples of the metrics that are asked for, in the order of the text; all lines are checked.
 *
 * @throws PrometheusTextError naming the first wrong line
 */
export function parsePrometheusText(text: string, names: ReadonlySet<string>): readonly MetricSample[] {
  const samples: MetricSample[] = []
  let line = 0
  for (let from = 0; from < text.length; ) {
    line++
    const newline = text.indexOf('\n', from)
    const end = newline === -1 ? text.length : newline
    const content = text.slice(from, end).trim()
    from = end + 1
    if (content === '' || content.startsWith('#')) continue
    const sample = readSample(content, line)
    if (names.has(sample.name)) samples.push(sample)
  }
  return samples
}

const NAME = /[a-zA-Z_:][a-zA-Z0-9_:]*/y
const LABEL_NAME = /[a-zA-Z_][a-zA-Z0-9_]*/y
const BLANKS = /[ \t]*/y
// A value, then perhaps a time in milliseconds (or seconds, in OpenMetrics), then perhaps an exemplar.
const REST = /[ \t]*(\S+)(?:[ \t]+-?[\d.eE+]+)?(?:[ \t]+#[ \t].*)?$/y
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/

function readSample(text: string, line: number): MetricSample {
  const name = match(NAME, text, 0)?.[0]
  if (name === undefined) throw new PrometheusTextError(line, 'does not begin with the name of a metric')
  const labels = new Map<string, string>()
  let at = skipBlanks(text, name.length)
  if (text[at] === '{') at = readLabels(text, at + 1, labels, line)
  else if (at === name.length) throw new PrometheusTextError(line, 'has no value')
  const value = match(REST, text, at)?.[1]
  if (value === undefined) throw new PrometheusTextError(line, 'has no value')
  return { name, labels, value: readValue(value, line) }
}

/** Reads labels up to the closing brace. @returns where the text goes on */
function readLabels(text: string, start: number, labels: Map<string, string>, line: number): number {
  let at = skipBlanks(text, start)
  while (text[at] !== '}') {
    const name = match(LABEL_NAME, text, at)?.[0]
    if (name === undefined) throw new PrometheusTextError(line, 'has a label without a name')
    if (labels.has(name)) throw new PrometheusTextError(line, `has the label ${name} twice`)
    at = skipBlanks(text, at + name.length)
    if (text[at] !== '=') throw new PrometheusTextError(line, `has no = after the label ${name}`)
    at = skipBlanks(text, at + 1)
    if (text[at] !== '"') throw new PrometheusTextError(line, `has no quoted value of the label ${name}`)
    const close = closingQuote(text, at + 1)
    if (close === undefined)
      throw new PrometheusTextError(line, `does not end the value of the label ${name}`)
    labels.set(name, unescaped(text.slice(at + 1, close)))
    at = skipBlanks(text, close + 1)
    if (text[at] === ',') at = skipBlanks(text, at + 1)
    else if (text[at] !== '}') throw new PrometheusTextError(line, 'does not end its labels')
  }
  return at + 1
}

function closingQuote(text: string, start: number): number | undefined {
  for (let at = start; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === '"') return at
  }
  return undefined
}

/** `\\`, `\"` and `\n` are escapes; any other backslash stands for itself. */
function unescaped(value: string): string {
  if (!value.includes('\\')) return value
  return value.replaceAll(/\\([\\"n])/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped))
}

function readValue(text: string, line: number): number {
  if (NUMBER.test(text)) return Number(text)
  switch (text.toLowerCase()) {
    case 'nan':
      return Number.NaN
    case 'inf':
    case '+inf':
      return Number.POSITIVE_INFINITY
    case '-inf':
      return Number.NEGATIVE_INFINITY
    default:
      throw new PrometheusTextError(line, 'has a value that is no number')
  }
}

function skipBlanks(text: string, at: number): number {
  return at + (match(BLANKS, text, at)?.[0].length ?? 0)
}

function match(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at
  return pattern.exec(text)
}
