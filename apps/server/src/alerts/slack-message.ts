import type { Message } from './message.ts'

/**
 * A message as Block Kit, for Slack's incoming webhooks.
 *
 * Limits by docs.slack.dev/reference/block-kit: header 150 characters, section text 3,000, ten fields of 2,000
 * each, button text 75, URL 3,000. In mrkdwn `&`, `<` and `>` are control characters and are escaped, so that no
 * name can mention a channel or make a link.
 */
const HEADER_MAX = 150
const TEXT_MAX = 3_000
const FIELD_MAX = 2_000
const FIELDS_MAX = 10
const URL_MAX = 3_000
/** Cut before it is escaped: an `&` becomes five characters. */
const ESCAPED_FACTOR = 5

export interface SlackText {
  readonly type: 'mrkdwn' | 'plain_text'
  readonly text: string
  readonly verbatim?: true
  readonly emoji?: false
}

export type SlackBlock =
  | { readonly type: 'header'; readonly text: SlackText }
  | { readonly type: 'section'; readonly text?: SlackText; readonly fields?: readonly SlackText[] }
  | { readonly type: 'context'; readonly elements: readonly SlackText[] }
  | {
      readonly type: 'actions'
      readonly elements: readonly {
        readonly type: 'button'
        readonly text: SlackText
        readonly url: string
      }[]
    }

export interface SlackMessage {
  /** For notifications and readers without blocks. */
  readonly text: string
  readonly blocks: readonly SlackBlock[]
}

export function slackMessage(message: Message): SlackMessage {
  const blocks: SlackBlock[] = [
    { type: 'header', text: { type: 'plain_text', text: cut(message.title, HEADER_MAX), emoji: false } },
    { type: 'section', text: mrkdwn(safe(message.summary, TEXT_MAX)) },
  ]
  if (message.facts.length > 0) {
    blocks.push({
      type: 'section',
      fields: message.facts
        .slice(0, FIELDS_MAX)
        .map(({ label, value }) => mrkdwn(`*${safe(label, 100)}*\n${safe(value, FIELD_MAX - 600)}`)),
    })
  }
  if (message.also.length > 0) {
    const lines = message.also.map((line) => `• ${safe(line, HEADER_MAX)}`)
    blocks.push({ type: 'context', elements: [mrkdwn(cut(`Also now:\n${lines.join('\n')}`, TEXT_MAX))] })
  }
  if (message.link !== null && message.link.length <= URL_MAX) {
    blocks.push({
      type: 'actions',
      elements: [
        {
          type: 'button',
          text: { type: 'plain_text', text: 'Open in TokenTally', emoji: false },
          url: message.link,
        },
      ],
    })
  }
  return { text: safe(`${message.title}. ${message.summary}`, TEXT_MAX), blocks }
}

function mrkdwn(text: string): SlackText {
  // Verbatim: names and addresses in it do not become links.
  return { type: 'mrkdwn', text, verbatim: true }
}

/** @param max characters of the result */
function safe(text: string, max: number): string {
  const escaped = escapeAll(text)
  return escaped.length <= max ? escaped : escapeAll(cut(text, Math.floor(max / ESCAPED_FACTOR)))
}

function escapeAll(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

function cut(text: string, max: number): string {
  const characters = [...text]
  if (text.length <= max) return text
  let kept = ''
  for (const character of characters) {
    if (kept.length + character.length > max - 1) break
    kept += character
  }
  return `${kept}…`
}
