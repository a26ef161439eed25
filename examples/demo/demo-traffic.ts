const CUSTOMERS = ['acme', 'acme', 'acme', 'globex', 'globex', 'initech'] as const
const FEATURES = ['chat', 'summarize', 'translate', 'research', 'chat'] as const

/** One request to the app; which customer and feature follows from its number, so that runs are alike. */
export async function sendRequest(appUrl: string, number: number): Promise<void> {
  const customer = CUSTOMERS[number % CUSTOMERS.length] ?? 'acme'
  const feature = FEATURES[number % FEATURES.length] ?? 'chat'
  const response = await fetch(`${appUrl}/${feature}`, { headers: { 'x-customer-id': customer } })
  const text = await response.text()
  if (!response.ok)
    throw new Error(`the app answered ${response.status} on /${feature}: ${text.slice(0, 300)}`)
}

const LANES = 8

/** Sends so many requests, a few at a time. */
export async function sendRequests(appUrl: string, requests: number): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < requests) await sendRequest(appUrl, next++)
  }
  await Promise.all(Array.from({ length: LANES }, lane))
}
