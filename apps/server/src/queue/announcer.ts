import type { Jobs } from './jobs.ts'

/**
 * Makes what is called whenever there may be work for a job: asks for a run soon, once for all calls of `everyMs`.
 * Failures are reported and forgotten: the job must have a schedule, which comes by anyway.
 */
export function createAnnouncer(
  jobs: Pick<Jobs, 'add'>,
  name: string,
  { everyMs, onError }: { readonly everyMs: number; readonly onError: (error: unknown) => void },
): () => void {
  let isAnnounced = false
  return () => {
    if (isAnnounced) return
    isAnnounced = true
    setTimeout(() => {
      isAnnounced = false
      jobs.add(name, {}, { dedupeId: name }).catch(onError)
    }, everyMs).unref()
  }
}
