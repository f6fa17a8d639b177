// What can be done with disks, each as a question.
import { get, post, remove, type Disk, type Pool, type Schemas } from '../api'
import type { Question } from '../ask.svelte'
import { binary, command } from '../command'
import { size } from '../format'
import { t } from '../../strings'

const w = t.acts

const nameOf = (d: Disk) => `${d.host}:${d.path}`

/** Of a disk that has failed nothing moves: what stands elsewhere, too, is built anew from there. */
const lost = (d: Disk) => (d.state === 'failed' ? w.disk.failed : t.confirm.nothingLost)

/** Where everything on a disk would go, as the planner says. */
function departures(d: Disk, e: Schemas['Evacuation']): string[] {
  return [...(e.moves ?? []).map((m) => (m.to ? w.disk.moves(m.volume, size(m.size), m.to) : w.disk.stays(m.volume, m.why ?? ''))), lost(d)]
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
    losses: async () => departures(d, await post('/v1/disks/{disk}/evacuation', { disk: d.id, dryRun: true }, { on: true })),
    cli: () => command('disk', 'evacuate', nameOf(d)),
    act: () => post('/v1/disks/{disk}/evacuation', { disk: d.id }, { on: true }),
  }
}

export const undo = (d: Disk) => post('/v1/disks/{disk}/evacuation', { disk: d.id }, { on: false })

export const scrub = (d: Disk) => post('/v1/disks/{disk}/scrub', { disk: d.id })

/** A disk of the same host in a disk's place; a host hands that on to the one that has them. */
export function replace(d: Disk): Question {
  return {
    title: w.disk.replaceTitle(nameOf(d)),
    text: w.disk.replaceText,
    fields: [
      { name: 'path', label: w.disk.newPath, kind: 'text', hint: w.disk.pathHint },
      { name: 'size', label: w.disk.file, kind: 'size', optional: true, hint: w.disk.fileHint },
    ],
    losses: async (v) => {
      const e = await get('/v1/disks/{disk}/evacuation', { disk: d.id })
      return [v.size ? w.disk.makes(String(v.path)) : w.disk.loses(String(v.path), d.host), w.disk.goes(e.moves?.length ?? 0, nameOf(d)), lost(d)]
    },
    button: w.disk.replace,
    danger: true,
    cli: (v) => command('disk', 'replace', nameOf(d), String(v.path), ...(v.size ? ['--size', binary(Number(v.size))] : [])),
    act: (v) => post('/v1/disks/{disk}/replace', { disk: d.id }, { path: String(v.path), size: Number(v.size) || undefined }),
  }
}

export function takeBack(d: Disk): Question {
  const call = (dryRun?: boolean) => remove('/v1/disks/{disk}', { disk: d.id, dryRun })
  return {
    title: w.disk.remove(nameOf(d)),
    text: w.disk.removeText,
    button: w.disk.takeBack,
    danger: true,
    losses: async () => departures(d, await get('/v1/disks/{disk}/evacuation', { disk: d.id })),
    cli: () => command('disk', 'remove', nameOf(d)),
    tried: () => call(true),
    act: () => call(),
  }
}
