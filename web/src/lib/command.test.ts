import { expect, test } from 'vitest'
import { createCommand, quoted } from './command'

test('the command that makes the same VM', () => {
  expect(createCommand({ name: 'db1', image: 'debian', size: 20 * 2 ** 30, cpus: 2, memory_mib: 2048, publish: [{ port: 8080, guest_port: 80 }] })).toBe(
    'holdfast vm create db1 --image debian --size 20GiB --cpus 2 --memory 2GiB --publish 8080:80',
  )
  expect(createCommand({ name: '' })).toBe('holdfast vm create NAME')
})

test('a shell reads one word', () => {
  expect([quoted('a-b'), quoted("it's"), quoted('$(rm x)')]).toEqual(['a-b', `'it'\\''s'`, `'$(rm x)'`])
})
