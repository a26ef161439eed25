import { crc32 } from 'node:zlib'

/** Headers of a message that is an event: its type, and that its payload is JSON. */
export function eventHeaders(type: string): Record<string, string> {
  return { ':event-type': type, ':content-type': 'application/json', ':message-type': 'event' }
}

/** Headers of a message that ends a stream with a failure. */
export function exceptionHeaders(type: string): Record<string, string> {
  return { ':exception-type': type, ':content-type': 'application/json', ':message-type': 'exception' }
}

/** A message of a binary event stream, written from the specification alone. */
export function message(headers: Readonly<Record<string, string>> | Uint8Array, payload: string): Buffer {
  const body = Buffer.from(payload)
  const head = headers instanceof Uint8Array ? headers : Buffer.concat(Object.entries(headers).map(header))
  const prelude = Buffer.alloc(12)
  prelude.writeUInt32BE(16 + head.length + body.length, 0)
  prelude.writeUInt32BE(head.length, 4)
  prelude.writeUInt32BE(crc32(prelude.subarray(0, 8)), 8)
  const checked = Buffer.concat([prelude, head, body])
  const checksum = Buffer.alloc(4)
  checksum.writeUInt32BE(crc32(checked))
  return Buffer.concat([checked, checksum])
}

function header([name, value]: [string, string]): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(Buffer.byteLength(value))
  return Buffer.concat([
    Buffer.from([Buffer.byteLength(name)]),
    Buffer.from(name),
    Buffer.from([7]),
    length,
    Buffer.from(value),
  ])
}

/** A stream as the transcripts write it down: one event a line, its type, a space, its JSON. */
export function eventStream(text: string): Uint8Array {
  const messages = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const split = line.indexOf(' ')
      const type = line.slice(0, split)
      return message(
        type.endsWith('Exception') ? exceptionHeaders(type) : eventHeaders(type),
        line.slice(split + 1),
      )
    })
  return new Uint8Array(Buffer.concat(messages))
}

/** A `chunk` event of InvokeModelWithResponseStream, which carries the model's own event in base64. */
export function chunkEvent(event: object): Buffer {
  const bytes = Buffer.from(JSON.stringify(event)).toString('base64')
  return message(eventHeaders('chunk'), JSON.stringify({ bytes, p: 'abcdefghij' }))
}
