/** Who may do what: organizations and their API keys. */
export { type AuthenticateDeps, authenticate, type KeyCache } from './authenticate.ts'
export { bootstrapOwner, FIRST_ORGANIZATION } from './bootstrap.ts'
export { registerAccessRoutes } from './routes.ts'
export { findActiveKeys, findOrganization } from './store.ts'
