import fc from 'fast-check'
import { expect, it } from 'vitest'
import { formField } from './multipart.ts'

const field = (name: string, value: string) =>
  `--x\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`
const file = '--x\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\n\u0000\uFFFD\r\n'

it.each<[what: string, body: string | undefined, value: string | undefined]>([
  ['before a file', `${field('model', 'whisper-1')}${file}--x--\r\n`, 'whisper-1'],
  ['behind a file', `${file}${field('model', 'whisper-1')}--x--\r\n`, 'whisper-1'],
  ['of several lines: the first', field('model', 'a\r\nb'), 'a'],
  ['of another name', field('models', 'whisper-1'), undefined],
  ['empty', field('model', ''), undefined],
  ['cut', '--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhis', undefined],
  ['endless', field('model', 'm'.repeat(10_001)), undefined],
  ['in JSON', `{"prompt":${JSON.stringify(field('model', 'm'))}}`, undefined],
  ['in no body', undefined, undefined],
])('a field %s', (_, body, value) => {
  expect(formField(body, 'model')).toBe(value)
})

it('whatever a body is, nothing is thrown', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      formField(`--x\r\n${text}name="model"\r\n\r\n${text}`, 'model')
    }),
  )
})
