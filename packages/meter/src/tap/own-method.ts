/**
 * Puts a function of ours before a method of one object, and of no other. It is not enumerable: who lists or
 * prints the object sees what was there before.
 *
 * @returns takes it away again, unless somebody has put another one before ours
 */
export function setOwn(object: object, name: string, method: (...args: unknown[]) => unknown): () => void {
  const before = Object.getOwnPropertyDescriptor(object, name)
  Object.defineProperty(object, name, {
    value: method,
    configurable: true,
    enumerable: false,
    writable: true,
  })
  return () => {
    if (Reflect.get(object, name) !== method) return
    if (before === undefined) Reflect.deleteProperty(object, name)
    else Object.defineProperty(object, name, before)
  }
}
