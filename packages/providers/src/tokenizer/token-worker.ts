import { parentPort } from 'node:worker_threads'
import { countTask } from './count-task.ts'
import { tokenizerOf } from './registry.ts'
import type { CountAnswer, CountRequest } from './token-counter.ts'
import { loadVocabulary } from './vocabularies.ts'

/** Texts of which not all has come. */
const slices = new Map<number, string[]>()

parentPort?.on('message', ({ id, slice, task }: CountRequest) => {
  const texts = slices.get(id) ?? []
  texts.push(slice)
  if (task === undefined) {
    slices.set(id, texts)
    return
  }
  slices.delete(id)
  // What fails here ends the worker, and everything that waits for it is counted by bytes.
  void loadVocabulary(tokenizerOf(task.model).vocabulary).then((vocabulary) => {
    const { tokens, isSampled, isExact } = countTask(task, texts.join(''), (piece) =>
      vocabulary.encodedLength(piece),
    )
    const answer: CountAnswer = {
      id,
      tokens,
      tokenizer: isSampled ? `${vocabulary.name}+sampled` : vocabulary.name,
      isExact,
    }
    parentPort?.postMessage(answer)
  })
})
