/** As far as fontkit, which comes without types, is used here. */
declare module 'fontkit' {
  export interface FontFile {
    hasGlyphForCodePoint(codePoint: number): boolean
  }
  export function openSync(path: string): FontFile
}
