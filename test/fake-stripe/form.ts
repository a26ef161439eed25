/** A form's value as `a[b][0][c]=x` nests it. */
export type FormValue = string | FormObject
export interface FormObject {
  [key: string]: FormValue
}

/** Reads a form-encoded body or query with nested brackets; lists become objects with the keys 0, 1 … */
export function parseForm(text: string): FormObject {
  const root: FormObject = {}
  for (const [name, value] of new URLSearchParams(text)) {
    const [head = '', ...rest] = name.replaceAll(']', '').split('[')
    const path = [head, ...rest]
    let at = root
    for (const [index, key] of path.entries()) {
      if (index === path.length - 1) at[key === '' ? String(Object.keys(at).length) : key] = value
      else {
        const next = at[key]
        if (typeof next === 'object') at = next
        else {
          const made: FormObject = {}
          at[key] = made
          at = made
        }
      }
    }
  }
  return root
}
