import { expect, test } from 'vitest'
import { createCommand, nbd, quoted } from './command'

test('the command that makes the same VM', () => {
  expect(createCommand({ name: 'db1', image: 'debian', size: 20 * 2 ** 30, cpus: 2, memory_mib: 2048, publish: [{ port: 8080, guest_port: 80 }] })).toBe(
    'holdfast vm create db1 --image debian --size 20GiB --cpus 2 --memory 2GiB --publish 8080:80',
  )
  expect(createCommand({ name: '' })).toBe('holdfast vm create NAME')
})

test('a shell reads one word', () => {
  expect([quoted('a-b'), quoted("it's"), quoted('$(rm x)')]).toEqual(['a-b', `'it'\\''s'`, `'$(rm x)'`])
})

test('a volume by NBD is at the first 16 digits of its identity', () => {
  expect(nbd({ id: 'c29b73c2-4c60-46af-8000-000000000001', name: 'ledger' })).toBe(
    "nbdinfo 'nbd+unix:///ledger?socket=/var/lib/holdfast/nbd/c29b73c24c6046af/nbd'\nnbd-client -unix /var/lib/holdfast/nbd/c29b73c24c6046af/nbd -N ledger /dev/nbd0",
  )
})
