import { expect, test } from 'vitest'
import { parseSize, size, span, when } from './format'

test('sizes', () => {
  expect([0, 1023, 1024, 1536, 20 * 2 ** 30, 11.94 * 2 ** 30, 141.4 * 2 ** 30].map(size)).toEqual(['0 B', '1023 B', '1 KiB', '1.50 KiB', '20 GiB', '11.9 GiB', '141 GiB'])
  expect(['20G', '20 GiB', '512m', '1,5T', '4096'].map(parseSize)).toEqual([20 * 2 ** 30, 20 * 2 ** 30, 512 * 2 ** 20, 1.5 * 2 ** 40, 4096])
  expect(['', 'x', '-1', '1 parsec', '1e3'].every((s) => Number.isNaN(parseSize(s)))).toBe(true)
})

test('lengths of time', () => {
  expect([0, 89_000, 120_000, 3600_000, 3 * 3600_000 + 300_000, 26 * 3600_000, 10 * 24 * 3600_000].map(span)).toEqual(['0 s', '89 s', '2 min', '1 h', '3 h 5 min', '1 d 2 h', '10 d'])
})

test('moments: what is far away has its year', () => {
  const day = 86400_000
  expect([-20 * 365, -200, 200, 20 * 365].every((d) => /\d{4}$/.test(when(Date.now() + d * day)))).toBe(true)
  expect([-100, -1, 1, 100].every((d) => /^\d+ \w+, \d\d:\d\d$/.test(when(Date.now() + d * day)))).toBe(true)
  expect(when(Date.now() - 3600_000)).toMatch(/^\d\d:\d\d:\d\d$/)
})
