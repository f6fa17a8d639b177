// What the graphs of a page show, made of what the API tells of a thing's history.
import type { Schemas } from './api'
import { size } from './format'
import { t } from '../strings'

export type History = Schemas['History']
export type Kind = History['kind']

/** One graph: lines of the same unit over the same time. */
export interface Graph {
  title: string
  times: number[] // Unix seconds
  lines: { metric: string; text: string; color: string; points: (number | null)[] }[]
  least: number // up to which the axis reaches at least
  binary: boolean // its round figures are powers of two
  show: (v: number) => string
}

/** How long back, in seconds. */
export const ranges = [3600, 86_400, 7 * 86_400, 31 * 86_400] as const

const colors = ['--accent', '--warning', '--ok']
const kinds: Record<Kind, [title: keyof typeof t.graphs.title, metrics: string[]][]> = {
  vm: [['cpu', ['cpu']], ['memory', ['memory']], ['disk', ['disk_read', 'disk_written']], ['net', ['net_received', 'net_sent']]],
  volume: [['requests', ['reads', 'writes']], ['bytes', ['read_bytes', 'written_bytes']], ['latency', ['read_latency', 'write_latency', 'flush_latency']]],
  host: [['cpu', ['cpu']], ['load', ['load']], ['memory', ['memory_used', 'memory_size']], ['room', ['disk_used', 'disk_size']]],
}

/** A figure with its unit, three digits. */
export function figure(unit: string, v: number): string {
  switch (unit) {
    case 'bytes':
      return size(v)
    case 'bytes/s':
      return `${size(v)}/s`
    case 'ratio':
      return `${digits(v * 100)} %`
    case 'requests/s':
      return `${digits(v)}/s`
    case 'seconds':
      return v === 0 ? '0 s' : v < 0.001 ? `${digits(v * 1e6)} µs` : v < 1 ? `${digits(v * 1e3)} ms` : `${digits(v)} s`
    case 'processors':
      return `${digits(v)} CPU`
  }
  return digits(v)
}

function digits(v: number): string {
  const n = Math.abs(v)
  return v.toFixed(n >= 100 || Number.isInteger(v) ? 0 : n >= 10 ? 1 : 2)
}

// An axis that reaches at least so far: noise of an idle thing is no mountain.
const least: Record<string, number> = { ratio: 1, processors: 0.1, load: 1, bytes: 1024, 'bytes/s': 1024, 'requests/s': 1, seconds: 0.001 }

/** The graphs of a history; such as have no figure are left out. */
export function graphsOf(h: History): Graph[] {
  const start = Date.parse(h.start) / 1000
  const by = new Map((h.metrics ?? []).map((m) => [m.name, m]))
  const out: Graph[] = []
  for (const [title, names] of kinds[h.kind]) {
    const found = names.flatMap((n) => by.get(n) ?? [])
    if (!found.length) continue
    const unit = found[0].unit
    out.push({
      title: t.graphs.title[title],
      times: (found[0].points ?? []).map((_, i) => start + i * h.step),
      lines: found.map((m, i) => ({ metric: m.name, text: t.graphs.metric[m.name] ?? m.name, color: colors[i], points: m.points ?? [] })),
      least: least[unit] ?? 1,
      binary: unit.startsWith('bytes'),
      show: (v) => figure(unit, v),
    })
  }
  return out
}

/** The last figure of a line, and the highest; null: there is none. */
export function summary(points: (number | null)[]): { last: number | null; most: number | null } {
  let last: number | null = null
  let most: number | null = null
  for (const p of points) {
    if (p === null) continue
    last = p
    most = Math.max(most ?? p, p)
  }
  return { last, most }
}
