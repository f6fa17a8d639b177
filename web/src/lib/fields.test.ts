import { expect, test } from 'vitest'
import { read } from './fields'

test('fields are read, and what is wrong is said', () => {
  const fields = [
    { name: 'name', label: '', kind: 'text' as const },
    { name: 'size', label: '', kind: 'size' as const },
    { name: 'copies', label: '', kind: 'number' as const, optional: true },
    { name: 'encrypt', label: '', kind: 'check' as const },
  ]
  expect(read(fields, { name: ' a ', size: '1 GiB', copies: '', encrypt: true })).toEqual({ values: { name: 'a', size: 2 ** 30, copies: 0, encrypt: true }, wrong: {} })
  expect(read(fields, { name: 'a', size: '5000', copies: '2' }).values.size).toBe(8192)
  expect(Object.keys(read(fields, { name: '', size: 'x', copies: '1.5' }).wrong)).toEqual(['name', 'size', 'copies'])
})
