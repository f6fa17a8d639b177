import { expect, test } from 'vitest'
import { answer, creation, request, toBytes, toText } from './passkey'

test('bytes are base64url without padding', () => {
  const b = Uint8Array.from([0, 250, 251, 252, 253, 254, 255])
  expect(toText(b.buffer)).toBe('APr7_P3-_w')
  expect([...toBytes('APr7_P3-_w')]).toEqual([...b])
  expect(toText(toBytes('').buffer)).toBe('')
})

test('options become what browsers take', () => {
  const c = creation({ challenge: 'AQ', user: { id: 'Ag', name: 'ann' }, excludeCredentials: [{ id: 'Aw', type: 'public-key' }], rp: { id: 'field.local' } })
  expect([...(c.challenge as Uint8Array)]).toEqual([1])
  expect([...(c.user.id as Uint8Array)]).toEqual([2])
  expect([...(c.excludeCredentials![0].id as Uint8Array)]).toEqual([3])
  expect(c.rp.id).toBe('field.local')
  const r = request({ challenge: 'AQ', rpId: 'field.local' })
  expect([...(r.challenge as Uint8Array)]).toEqual([1])
  expect(r.allowCredentials).toEqual([])
})

test('what a device says becomes JSON', () => {
  const bytes = (n: number) => Uint8Array.from([n]).buffer
  const made = answer({ id: 'Aw', rawId: bytes(3), type: 'public-key', response: { clientDataJSON: bytes(1), attestationObject: bytes(2), getTransports: () => ['internal'] } } as unknown as PublicKeyCredential)
  expect(made).toEqual({ id: 'Aw', rawId: 'Aw', type: 'public-key', clientExtensionResults: {}, response: { clientDataJSON: 'AQ', attestationObject: 'Ag', transports: ['internal'] } })
  const proved = answer({ id: 'Aw', rawId: bytes(3), type: 'public-key', response: { clientDataJSON: bytes(1), authenticatorData: bytes(4), signature: bytes(5), userHandle: bytes(6) } } as unknown as PublicKeyCredential)
  expect(proved.response).toEqual({ clientDataJSON: 'AQ', authenticatorData: 'BA', signature: 'BQ', userHandle: 'Bg' })
})
