/** A stream of Server-Sent Events, as far as tests read it. */
export interface EventStream {
  readonly status: number
  readonly contentType: string | null
  /** The data of the events so far, parsed as JSON. */
  readonly events: readonly { readonly name: string; readonly data: unknown; readonly atMs: number }[]
  /** When comment lines came, milliseconds of `performance.now()`. */
  readonly heartbeats: readonly number[]
  /** Whether the other side has ended the stream. */
  isEnded(): boolean
  close(): void
}

/** Opens a stream and gathers what comes. */
export async function openEventStream(url: string, key: string): Promise<EventStream> {
  const controller = new AbortController()
  const response = await fetch(url, {
    headers: { authorization: `Bearer ${key}`, accept: 'text/event-stream' },
    signal: controller.signal,
  })
  const events: { name: string; data: unknown; atMs: number }[] = []
  const heartbeats: number[] = []
  let isEnded = false
  const read = async () => {
    let text = ''
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk, { stream: true })
      const blocks = text.split('\n\n')
      text = blocks.pop() ?? ''
      for (const block of blocks) {
        if (block.startsWith(':')) heartbeats.push(performance.now())
        else {
          const name = /^event: (.*)$/m.exec(block)?.[1] ?? ''
          const data: unknown = JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? 'null')
          events.push({ name, data, atMs: performance.now() })
        }
      }
    }
  }
  read()
    .catch(() => undefined)
    .finally(() => {
      isEnded = true
    })
  return {
    status: response.status,
    contentType: response.headers.get('content-type'),
    events,
    heartbeats,
    isEnded: () => isEnded,
    close: () => controller.abort(),
  }
}
