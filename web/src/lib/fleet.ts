// What the pages show of hosts and racks, made from what the stream tells.
import type { Host, Status, VM } from './api'

export interface Rack {
  name: string // SITE/RACK, or RACK
  hosts: { host: Host; vms: VM[] }[]
  witness: boolean // it holds a witness and nothing else
  away: boolean // none of its hosts answers
  canLose?: boolean // absent: nothing can be said now
  whyNot: string
}

export function rackOf(h: Host): string {
  return h.site ? `${h.site}/${h.rack}` : h.rack
}

/** The racks by name, each with its hosts, and on each the VMs that should run there. */
export function racksOf(hosts: Host[], vms: VM[], status?: Status): Rack[] {
  const on = new Map<string, VM[]>()
  for (const v of vms) {
    if (v.power !== 'on' || !v.host) continue
    const there = on.get(v.host)
    if (there) there.push(v)
    else on.set(v.host, [v])
  }
  const racks = new Map<string, Rack>()
  for (const h of hosts) {
    const name = rackOf(h)
    let r = racks.get(name)
    if (!r) racks.set(name, (r = { name, hosts: [], witness: true, away: true, whyNot: '' }))
    r.hosts.push({ host: h, vms: on.get(h.name) ?? [] })
    r.witness &&= !!h.witness
    r.away &&= h.state === 'away'
  }
  const lose = status?.can_lose
  for (const r of racks.values()) {
    if (!lose || lose.unknown) continue
    r.whyNot = lose.not_racks?.[r.name] ?? ''
    if (r.whyNot) r.canLose = false
    else if (lose.racks?.includes(r.name)) r.canLose = true
  }
  return [...racks.values()].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))
}

/** Memory in MiB: what there is, what VMs that should run are promised, and what
 * would be left of it without the rack that has most. */
export interface Memory {
  total: number
  used: number
  withoutLargest: number
  largest: string
}

export function memoryOf(racks: Rack[], vms: VM[]): Memory {
  const used = vms.reduce((n, v) => n + (v.power === 'on' ? v.memory_mib : 0), 0)
  let total = 0
  let most = 0
  let largest = ''
  for (const r of racks) {
    const has = r.hosts.reduce((n, { host }) => n + usable(host), 0)
    total += has
    if (has > most) [most, largest] = [has, r.name]
  }
  return { total, used, withoutLargest: total - most, largest }
}

function usable(h: Host): number {
  if (h.state !== 'alive' || h.witness) return 0
  return Math.max(0, (h.memory_mib ?? 0) - (h.bytes_ram ?? 0) / 2 ** 20)
}

/** The name of the runbook for a condition. */
export function runbookOf(condition: string): string {
  return condition.split(/[/@]/, 1)[0]
}

/** A sentence of truth, cut into sentences: the first says what runs. */
export function sentences(text: string): string[] {
  return text.split(/(?<=[.!?])\s+(?=[A-Z0-9])/).filter(Boolean)
}
