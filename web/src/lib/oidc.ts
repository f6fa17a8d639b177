// Rules of OpenID Connect as people type them, as in 'holdfast oidc set --rule'.
import type { Schemas } from './api'

export type Rule = Schemas['OIDCRule']
const roles: readonly string[] = ['viewer', 'operator', 'tenant-admin', 'cluster-admin'] satisfies Rule['role'][]

const isRole = (s: string | undefined): s is Rule['role'] => s !== undefined && roles.includes(s)

/** Reads CLAIM=VALUE:ROLE or CLAIM=VALUE:ROLE:PROJECT; a value may have colons. Undefined: it is neither. */
export function parseRule(line: string): Rule | undefined {
  const at = line.indexOf('=')
  const claim = line.slice(0, Math.max(0, at)).trim()
  const parts = line.slice(at + 1).trim().split(':')
  const last = parts.at(-1)
  const before = parts.at(-2)
  let rule: Rule | undefined
  if (isRole(last)) rule = { claim, value: parts.slice(0, -1).join(':'), role: last }
  else if (isRole(before)) rule = { claim, value: parts.slice(0, -2).join(':'), role: before, project: last }
  return rule && rule.claim && rule.value ? rule : undefined
}

export function ruleText(r: Rule): string {
  return `${r.claim}=${r.value}:${r.role}${r.project ? ':' + r.project : ''}`
}
