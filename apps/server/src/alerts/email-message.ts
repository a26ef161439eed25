import type { Message } from './message.ts'

/** A message as e-mail: the same in text and HTML. */
export interface EmailText {
  readonly subject: string
  readonly text: string
  readonly html: string
}

const SUBJECT_MAX = 200

export function emailMessage(message: Message): EmailText {
  const lines = [
    message.summary,
    ...(message.facts.length === 0
      ? []
      : ['', ...message.facts.map(({ label, value }) => `${label}: ${value}`)]),
    ...(message.also.length === 0 ? [] : ['', 'Also now:', ...message.also.map((line) => `- ${line}`)]),
    ...(message.link === null ? [] : ['', message.link]),
  ]
  const rows = message.facts
    .map(({ label, value }) => `<tr><th align="left">${html(label)}</th><td>${html(value)}</td></tr>`)
    .join('')
  const also = message.also.map((line) => `<li>${html(line)}</li>`).join('')
  return {
    // A line break in a name must not begin another header.
    subject: message.title.replaceAll(/\s+/g, ' ').slice(0, SUBJECT_MAX),
    text: `${lines.join('\n')}\n`,
    html: [
      `<h2>${html(message.title)}</h2>`,
      `<p>${html(message.summary)}</p>`,
      rows === '' ? '' : `<table cellpadding="4">${rows}</table>`,
      also === '' ? '' : `<p>Also now:</p><ul>${also}</ul>`,
      message.link === null ? '' : `<p><a href="${html(message.link)}">Open in TokenTally</a></p>`,
    ].join(''),
  }
}

function html(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}
