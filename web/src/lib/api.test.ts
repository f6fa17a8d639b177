import { afterEach, expect, test, vi } from 'vitest'
import { fill, request } from './api'

afterEach(() => vi.unstubAllGlobals())

test('a refusal says which field is wrong', async () => {
  const said = { detail: 'the request is not understood', errors: [{ where: 'body.name', what: 'too long' }, { what: 'and more' }] }
  vi.stubGlobal('fetch', async () => new Response(JSON.stringify(said), { status: 422 }))
  await expect(request('POST', '/v1/vms', {})).rejects.toThrow('the request is not understood; body.name: too long; and more')
  vi.stubGlobal('fetch', async () => new Response('<html>', { status: 502 }))
  await expect(request('GET', '/v1/vms')).rejects.toMatchObject({ status: 502 })
})

test('names are parts of paths', () => {
  expect(fill('/v1/vms/{vm}', { vm: 'a/b?', force: true, left: undefined })).toBe('/v1/vms/a%2Fb%3F?force=true')
})
