// What can be done with disks, each as a question.
import { get, post, remove, type Disk, type Pool } from '../api'
import type { Question } from '../ask.svelte'
import { binary, command } from '../command'
import { size } from '../format'
import { t } from '../../strings'

const w = t.acts

const nameOf = (d: Disk) => `${d.host}:${d.path}`

/** Where everything on a disk would go, as the planner says now. */
async function departures(d: Disk): Promise<string[]> {
  const e = await get('/v1/disks/{disk}/evacuation', { disk: d.id })
  return [...(e.moves ?? []).map((m) => (m.to ? w.disk.moves(m.volume, size(m.size), m.to) : w.disk.stays(m.volume, m.why ?? ''))), t.confirm.nothingLost]
}

/** A disk of the host that the page was loaded from. */
export function add(host: string, pools: Pool[]): Question {
  return {
    title: w.disk.add(host),
    text: w.disk.addText,
    fields: [
      { name: 'path', label: w.disk.path, kind: 'text', hint: w.disk.pathHint },
      { name: 'size', label: w.disk.file, kind: 'size', optional: true, hint: w.disk.fileHint },
      ...(pools.length > 1 ? [{ name: 'pool', label: w.pool, kind: 'choice' as const, value: pools[0].name, options: pools.map((p) => ({ value: p.name, text: p.name })) }] : []),
    ],
    losses: async (v) => [v.size ? w.disk.makes(String(v.path)) : w.disk.wipes(String(v.path), host)],
    button: w.add,
    danger: true,
    cli: (v) => command('disk', 'add', String(v.path), ...(v.size ? ['--size', binary(Number(v.size))] : []), ...(v.pool ? ['--pool', String(v.pool)] : [])),
    act: (v) => post('/v1/disks', {}, { path: String(v.path), size: Number(v.size) || undefined, pool: v.pool ? String(v.pool) : undefined }),
  }
}

export function evacuate(d: Disk): Question {
  return {
    title: w.disk.evacuate(nameOf(d)),
    text: w.disk.evacuateText,
    button: w.disk.empty,
    losses: () => departures(d),
    cli: () => command('disk', 'evacuate', nameOf(d)),
    act: () => post('/v1/disks/{disk}/evacuation', { disk: d.id }, { on: true }),
  }
}

export const undo = (d: Disk) => post('/v1/disks/{disk}/evacuation', { disk: d.id }, { on: false })

export function takeBack(d: Disk): Question {
  return {
    title: w.disk.remove(nameOf(d)),
    text: w.disk.removeText,
    button: w.disk.takeBack,
    danger: true,
    losses: () => departures(d),
    cli: () => command('disk', 'remove', nameOf(d)),
    act: () => remove('/v1/disks/{disk}', { disk: d.id }),
  }
}
