import { type FontWeight, fontRuns } from './font-runs.ts'

/** Text on a page of a PDF document, in whatever fonts it needs. Lengths are points, `y` is that of the baseline. */

export interface TextStyle {
  readonly size: number
  readonly weight: FontWeight
  readonly color: string
}

export type Align = 'left' | 'right' | 'center'

export function textWidth(doc: PDFKit.PDFDocument, text: string, { size, weight }: TextStyle): number {
  return fontRuns(text, weight).reduce(
    (width, run) => width + doc.font(run.path).fontSize(size).widthOfString(run.text),
    0,
  )
}

/** Draws one line. `x` is its left end, its right end or its middle, as `align` says. */
export function drawText(
  doc: PDFKit.PDFDocument,
  text: string,
  { x, y, align = 'left' }: { readonly x: number; readonly y: number; readonly align?: Align },
  style: TextStyle,
): void {
  const width = align === 'left' ? 0 : textWidth(doc, text, style)
  let left = align === 'right' ? x - width : align === 'center' ? x - width / 2 : x
  for (const run of fontRuns(text, style.weight)) {
    doc.font(run.path).fontSize(style.size).fillColor(style.color)
    doc.text(run.text, left, y, { lineBreak: false, baseline: 'alphabetic' })
    left += doc.widthOfString(run.text)
  }
}

/** Breaks a text into lines that fit: between words, and inside a word that is longer than a line. */
export function wrapText(
  doc: PDFKit.PDFDocument,
  text: string,
  width: number,
  style: TextStyle,
): readonly string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/\s+/u)) {
    const longer = line === '' ? word : `${line} ${word}`
    if (textWidth(doc, longer, style) <= width) {
      line = longer
      continue
    }
    if (line !== '') lines.push(line)
    line = ''
    for (const { segment } of GRAPHEMES.segment(word)) {
      if (line !== '' && textWidth(doc, line + segment, style) > width) {
        lines.push(line)
        line = ''
      }
      line += segment
    }
  }
  lines.push(line)
  return lines
}

const GRAPHEMES = new Intl.Segmenter('en', { granularity: 'grapheme' })
