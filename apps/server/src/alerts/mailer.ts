import type { Transporter } from 'nodemailer'
import type { EmailText } from './email-message.ts'

const TIMEOUT_MS = 10_000

/** Sends e-mail. The server is the operator's own choice, so its address is not guarded. */
export interface Mailer {
  /** @throws Error, with `responseCode` when the server refused */
  send(mail: EmailText & { readonly to: string; readonly id: string }): Promise<void>
}

/** E-mail by SMTP, a connection per message: alerts are few, and a broken connection costs none. */
export function createMailer({ url, from }: { readonly url: string; readonly from: string }): Mailer {
  let transport: Promise<Transporter> | undefined
  const domain = /@([^>\s]+)/.exec(from)?.[1] ?? 'tokentally'
  return {
    async send({ to, id, subject, text, html }) {
      // The same on every attempt: mail systems that look for duplicates find them by it.
      transport ??= createTransport(url)
      await (await transport).sendMail({ from, to, subject, text, html, messageId: `<${id}@${domain}>` })
    },
  }
}

/** Loaded with the first message: many services never send one. */
async function createTransport(url: string): Promise<Transporter> {
  const nodemailer = await import('nodemailer')
  return nodemailer.createTransport({
    url,
    connectionTimeout: TIMEOUT_MS,
    greetingTimeout: TIMEOUT_MS,
    socketTimeout: TIMEOUT_MS,
    dnsTimeout: TIMEOUT_MS,
    // A message is what is given here, never a file or URL that it names.
    disableFileAccess: true,
    disableUrlAccess: true,
  })
}
