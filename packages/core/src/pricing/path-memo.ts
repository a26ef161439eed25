/**
 * Remembers what was found for several texts together. One map below another by each text, so that no text need be
 * joined and hashed anew for every question. Emptied when it is full.
 */
export class PathMemo<Found extends object> {
  readonly #sizeMax: number
  #size = 0
  #root = new Map<string | undefined, Level<Found>>()

  /** @param sizeMax how many findings are remembered */
  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax
  }

  /** @param path as many texts at every call of one memo */
  get(path: readonly (string | undefined)[], find: () => Found): Found {
    let level = this.#root
    const last = path.length - 1
    for (let depth = 0; depth < last; depth++) {
      const below = level.get(path[depth])
      if (below?.map === undefined) return this.#add(path, find())
      level = below.map
    }
    return level.get(path[last])?.found ?? this.#add(path, find())
  }

  #add(path: readonly (string | undefined)[], found: Found): Found {
    if (this.#size >= this.#sizeMax) {
      this.#root = new Map()
      this.#size = 0
    }
    let level = this.#root
    for (const text of path.slice(0, -1)) {
      const map = level.get(text)?.map ?? new Map<string | undefined, Level<Found>>()
      level.set(text, { map, found: undefined })
      level = map
    }
    level.set(path.at(-1), { map: undefined, found })
    this.#size++
    return found
  }
}

interface Level<Found> {
  readonly map: Map<string | undefined, Level<Found>> | undefined
  readonly found: Found | undefined
}
