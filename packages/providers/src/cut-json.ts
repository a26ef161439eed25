import { type JsonObject, parseJsonObject } from './reader.ts'

/**
 * Reads a JSON object whose end never came, for the texts that are in it: what is open is closed, and a member
 * that has no value yet is left out. A number may be cut too, so nothing but texts is to be taken from it.
 *
 * @returns undefined when it is no JSON object as far as it came
 */
export function parseCutJson(text: string | undefined): JsonObject | undefined {
  if (text === undefined || !OBJECT.test(text)) return undefined
  // Half a character.
  const came = text.replace(/\ufffd+$/, '')
  const closers: string[] = []
  let isInString = false
  /** Until here the text needs nothing but its brackets closed. */
  let sound = 0
  for (let at = 0; at < came.length; at++) {
    const character = came[at]
    if (isInString) {
      if (character === '\\') at++
      else if (character === '"') isInString = false
    } else if (character === '"') {
      isInString = true
    } else if (character === ',') {
      sound = at
    } else if (character === '{' || character === '[') {
      closers.push(character === '{' ? '}' : ']')
      sound = at + 1
    } else if (character === '}' || character === ']') {
      if (closers.pop() !== character) return undefined
      sound = at + 1
    }
  }
  const closing = closers.toReversed().join('')
  const whole = isInString ? `${came.replace(HALF_ESCAPE, '$1')}"` : came
  return parseJsonObject(whole + closing) ?? parseJsonObject(came.slice(0, sound) + closing)
}

const OBJECT = /^\s*\{/
/** An escape that is cut, behind any number of escaped backslashes. */
const HALF_ESCAPE = /((?:^|[^\\])(?:\\\\)*)\\(?:u[\da-fA-F]{0,3})?$/
