import type { App } from '../http/app.ts'
import { registerAlertList, registerAlertSettings } from './alert-routes.ts'
import { type ChannelRouteDependencies, registerChannelRoutes } from './channel-routes.ts'

export type AlertRouteDependencies = ChannelRouteDependencies

/** Registers alerts, their settings and their channels. */
export function registerAlertRoutes(app: App, dependencies: AlertRouteDependencies): void {
  registerAlertList(app, dependencies)
  registerAlertSettings(app, dependencies)
  registerChannelRoutes(app, dependencies)
}
