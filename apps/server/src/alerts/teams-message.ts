import type { Message } from './message.ts'

/**
 * A message as Adaptive Card, for the workflow "Post to a channel when a webhook request is received" of Microsoft
 * Teams (the successor of Office 365 connectors). A card may have 28 KB; texts are cut far below that.
 * Texts are Markdown there, and what could format or link is escaped.
 */
const TEXT_MAX = 1_000

export function teamsMessage(message: Message) {
  return {
    type: 'message',
    attachments: [
      {
        contentType: 'application/vnd.microsoft.card.adaptive',
        contentUrl: null,
        content: {
          $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
          type: 'AdaptiveCard',
          version: '1.4',
          body: [
            { type: 'TextBlock', size: 'Large', weight: 'Bolder', wrap: true, text: plain(message.title) },
            { type: 'TextBlock', wrap: true, text: plain(message.summary) },
            ...(message.facts.length === 0
              ? []
              : [
                  {
                    type: 'FactSet',
                    facts: message.facts.map(({ label, value }) => ({
                      title: plain(label),
                      value: plain(value),
                    })),
                  },
                ]),
            ...message.also.map((line) => ({
              type: 'TextBlock',
              isSubtle: true,
              wrap: true,
              spacing: 'None',
              text: `Also now: ${plain(line)}`,
            })),
          ],
          ...(message.link === null
            ? {}
            : { actions: [{ type: 'Action.OpenUrl', title: 'Open in TokenTally', url: message.link }] }),
        },
      },
    ],
  }
}

function plain(text: string): string {
  const short = text.length <= TEXT_MAX ? text : `${[...text.slice(0, TEXT_MAX - 1)].slice(0, -1).join('')}…`
  return short.replaceAll(/[\\`*_[\]()#<>~|]/g, '\\$&')
}
