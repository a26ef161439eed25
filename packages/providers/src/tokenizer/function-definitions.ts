import { isJsonObject, type JsonObject, objectAt, textAt } from '../reader.ts'
import type { ToolDefinition } from './dialogue.ts'

/** Deepest nesting of a schema that is written out. */
const LEVELS_MAX = 20

/**
 * Functions as OpenAI's models read them: a TypeScript namespace. OpenAI says that functions are "injected into
 * the system message in a syntax the model has been trained on" (guide "Function calling"); the syntax is known
 * from models that repeated it, and gives the counts that OpenAI publishes ("How to count tokens with tiktoken",
 * section 7, read 2026-11).
 */
export function functionNamespace(tools: readonly ToolDefinition[]): string {
  const lines = ['namespace functions {', '']
  for (const { name, description, parameters } of tools) {
    if (description) lines.push(`// ${description}`)
    const properties = objectAt(parameters, 'properties')
    if (parameters === undefined || properties === undefined || Object.keys(properties).length === 0) {
      lines.push(`type ${name} = () => any;`)
    } else {
      lines.push(`type ${name} = (_: {`)
      const written = propertiesText(parameters, 0, LEVELS_MAX)
      if (written !== '') lines.push(written)
      lines.push('}) => any;')
    }
    lines.push('')
  }
  lines.push('} // namespace functions')
  return lines.join('\n')
}

function propertiesText(schema: JsonObject, indent: number, levels: number): string {
  const required = schema['required']
  const isRequired = (name: string) => Array.isArray(required) && required.includes(name)
  const space = ' '.repeat(indent)
  return Object.entries(objectAt(schema, 'properties') ?? {})
    .flatMap(([name, value]) => {
      const property = isJsonObject(value) ? value : {}
      const description = textAt(property, 'description')
      const written = `${space}${name}${isRequired(name) ? '' : '?'}: ${typeText(property, indent, levels - 1)},`
      // Deeper ones lose their descriptions.
      return description && indent < 2 ? [`${space}// ${description}`, written] : [written]
    })
    .join('\n')
}

function typeText(schema: JsonObject, indent: number, levels: number): string {
  if (levels === 0) return 'any'
  const values = Array.isArray(schema['enum']) ? schema['enum'] : undefined
  switch (schema['type']) {
    case 'string':
      return values?.map((value) => JSON.stringify(value)).join(' | ') ?? 'string'
    case 'integer':
    case 'number':
      return values?.map(String).join(' | ') ?? 'number'
    case 'boolean':
      return 'boolean'
    case 'null':
      return 'null'
    case 'array': {
      const items = objectAt(schema, 'items')
      return items === undefined ? 'any[]' : `${typeText(items, indent, levels - 1)}[]`
    }
    case 'object':
      return `{\n${propertiesText(schema, indent + 2, levels)}\n${' '.repeat(indent)}}`
    default:
      return 'any'
  }
}
