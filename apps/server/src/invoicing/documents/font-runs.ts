import { fileURLToPath } from 'node:url'
import { type FontFile, openSync } from 'fontkit'

/**
 * The fonts that documents are set in, and which of them has which character. Noto Sans has Latin, Greek and Cyrillic
 * with all accents; Japanese, Korean and simplified Chinese have a font each. What none of them has is shown as `?`.
 */

export type FontWeight = 'regular' | 'bold'

interface Face {
  readonly regular: string
  readonly bold: string
  /** Characters that were looked for. */
  readonly known: Map<string, boolean>
}

const LATIN = face('latin', 'NotoSans-Regular.ttf', 'NotoSans-SemiBold.ttf')
const EAST_ASIAN = [
  face('jp', 'NotoSansJP-Regular.otf', 'NotoSansJP-Bold.otf'),
  face('sc', 'NotoSansHans-Regular.otf', 'NotoSansHans-Bold.otf'),
  face('kr', 'NotoSansKR-Regular.otf', 'NotoSansKR-Bold.otf'),
]
const MISSING = '?'

/** A piece of text that one font file has all characters of. */
export interface FontRun {
  readonly text: string
  readonly path: string
}

/** Cuts a text where its font changes. East Asian text is set in the font that has most of it. */
export function fontRuns(text: string, weight: FontWeight): readonly FontRun[] {
  // Composed, so that an accent is part of its letter; controls would be drawn as boxes.
  const characters = [...text.normalize('NFC').replaceAll(/\p{Cc}+/gu, ' ')]
  const others = characters.filter((character) => !has(LATIN, character))
  const faces = [
    LATIN,
    ...(others.length === 0 ? [] : EAST_ASIAN.toSorted((a, b) => covered(b, others) - covered(a, others))),
  ]
  const runs: { text: string; path: string }[] = []
  for (const character of characters) {
    const found = faces.find((one) => has(one, character))
    const path = (found ?? LATIN)[weight]
    const shown = found === undefined ? MISSING : character
    const last = runs.at(-1)
    if (last?.path === path) last.text += shown
    else runs.push({ text: shown, path })
  }
  return runs
}

function covered(one: Face, characters: readonly string[]): number {
  return characters.filter((character) => has(one, character)).length
}

function has({ regular, known }: Face, character: string): boolean {
  const found = known.get(character) ?? fileOf(regular).hasGlyphForCodePoint(character.codePointAt(0) ?? 0)
  known.set(character, found)
  return found
}

const files = new Map<string, FontFile>()

function fileOf(path: string): FontFile {
  let file = files.get(path)
  if (file === undefined) {
    file = openSync(path)
    files.set(path, file)
  }
  return file
}

function face(name: string, regular: string, bold: string): Face {
  const pathOf = (file: string) =>
    fileURLToPath(new URL(`../fonts/${file}`, import.meta.resolve(`@embedpdf/fonts-${name}`)))
  return { regular: pathOf(regular), bold: pathOf(bold), known: new Map() }
}
