import { expect, test } from 'vitest'
import type { Host, Status, VM } from './api'
import { memoryOf, racksOf, runbookOf, sentences } from './fleet'

const host = (name: string, rack: string, more: Partial<Host> = {}) => ({ id: name, name, rack, state: 'alive', memory_mib: 1024, vms: [], ...more }) as Host
const vm = (name: string, on: string, mib = 256, power = 'on') => ({ id: name, name, host: on, memory_mib: mib, power, state: 'running' }) as VM
const status = (can_lose: Partial<Status['can_lose']>) => ({ can_lose: { racks: [], hosts: [], ...can_lose } }) as unknown as Status

test('racks hold their hosts, and hosts the VMs that should run there', () => {
  const racks = racksOf([host('b1', 'b', { state: 'away' }), host('a1', 'a'), host('a2', 'a')], [vm('x', 'a2'), vm('off', 'a1', 256, 'off'), vm('lost', '')], status({ racks: ['a'], not_racks: { b: 'it holds the only copy' } }))
  expect(racks.map((r) => r.name)).toEqual(['a', 'b'])
  expect(racks[0].hosts.map((h) => h.vms.map((v) => v.name))).toEqual([[], ['x']])
  expect(racks.map((r) => [r.away, r.canLose, r.whyNot])).toEqual([[false, true, ''], [true, false, 'it holds the only copy']])
})

test('racks of two sites are two', () => {
  expect(racksOf([host('a1', 'a', { site: 'north' }), host('a2', 'a', { site: 'south' })], []).map((r) => r.name)).toEqual(['north/a', 'south/a'])
})

test('nothing is said of a loss while nothing is known', () => {
  expect(racksOf([host('a1', 'a')], [], status({ racks: ['a'], unknown: 'the control plane is away' }))[0].canLose).toBeUndefined()
})

test('memory: what is promised, and what is left without the largest rack', () => {
  const hosts = [host('a1', 'a', { memory_mib: 4096 }), host('b1', 'b', { bytes_ram: 512 * 2 ** 20 }), host('w', 'w', { witness: true }), host('c1', 'c', { state: 'away' })]
  expect(memoryOf(racksOf(hosts, []), [vm('x', 'a1'), vm('y', 'b1', 100), vm('z', 'b1', 999, 'off')])).toEqual({ total: 4608, used: 356, withoutLargest: 512, largest: 'a' })
})

test('a condition names its runbook', () => {
  expect(['rack-away/b', 'clock-skew@b1', 'disk-rot/04000000@b1', 'swap'].map(runbookOf)).toEqual(['rack-away', 'clock-skew', 'disk-rot', 'swap'])
})

test('a sentence of truth is cut where one ends and another begins', () => {
  expect(sentences('All 7 VMs running. One copy left of 9 volumes (db1, db1.example, 6 more). Can lose any 1 rack.')).toEqual(['All 7 VMs running.', 'One copy left of 9 volumes (db1, db1.example, 6 more).', 'Can lose any 1 rack.'])
})
