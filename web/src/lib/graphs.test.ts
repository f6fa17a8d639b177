import { expect, test } from 'vitest'
import { figure, graphsOf, summary } from './graphs'

test('figures with their units', () => {
  expect([figure('bytes', 1536), figure('bytes/s', 0), figure('ratio', 0.256), figure('seconds', 0.00042), figure('seconds', 0.0125), figure('requests/s', 12.34), figure('processors', 2)]).toEqual([
    '1.50 KiB', '0 B/s', '25.6 %', '420 µs', '12.5 ms', '12.3/s', '2 CPU'])
})

test('graphs of what is known', () => {
  const points = [1, null, 3]
  const g = graphsOf({ kind: 'vm', id: '', name: 'a', start: '2026-01-01T00:00:00Z', step: 10, metrics: [{ name: 'disk_written', unit: 'bytes/s', points }, { name: 'cpu', unit: 'processors', points }, { name: 'later', unit: 'load', points }] } as never)
  expect(g.map((x) => x.lines.map((l) => l.metric))).toEqual([['cpu'], ['disk_written']])
  expect(g[0].times).toEqual([1767225600, 1767225610, 1767225620])
  expect(summary(points)).toEqual({ last: 3, most: 3 })
  expect(summary([null])).toEqual({ last: null, most: null })
})
