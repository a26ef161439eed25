// By its path: the package offers its own sources under the condition `source`, which this repository uses for its
// packages, and they do not pass our compiler's settings.
export { Mistral } from '../../../node_modules/@mistralai/mistralai/esm/index.js'
