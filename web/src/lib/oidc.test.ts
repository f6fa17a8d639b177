import { expect, test } from 'vitest'
import { parseRule, ruleText } from './oidc'

test('rules are read as they are written', () => {
  for (const text of ['groups=it:cluster-admin', 'realm_access.roles=a:b=c:viewer', 'groups=red team:tenant-admin:red', 'groups=viewer:operator']) {
    const r = parseRule(text)
    expect(r && ruleText(r)).toBe(text)
  }
  expect(parseRule(' groups = it:viewer ')).toEqual({ claim: 'groups', value: 'it', role: 'viewer' })
})

test('what is no rule is none', () => {
  for (const text of ['', 'groups', 'groups=it', '=it:viewer', 'groups=:viewer', 'groups=it:king', 'it:viewer', 'groups=viewer']) expect(parseRule(text), text).toBeUndefined()
})
