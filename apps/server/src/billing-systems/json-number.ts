/**
 * The JSON number that is written as a decimal: for systems that take amounts as numbers. Nothing is computed with it.
 *
 * @param text plain decimal text
 * @throws RangeError when no number prints as this decimal: it has too many digits
 */
export function jsonNumber(text: string): number {
  const value = Number(text)
  const plain = text.includes('.') ? text.replace(/\.?0+$/, '') : text
  if (String(value) !== plain) throw new RangeError(`${text} is no JSON number without loss`)
  return value
}
