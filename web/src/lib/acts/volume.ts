// What can be done with volumes, each as a question.
import { get, post, remove, type Pool, type Volume } from '../api'
import { asker, type Field, type Question, type Values } from '../ask.svelte'
import { binary, command } from '../command'
import { size, when } from '../format'
import { live } from '../live.svelte'
import { router, to } from '../router.svelte'
import { t } from '../../strings'

const w = t.acts

const go = (name: string) => router.go(to('storage', name).slice('/ui'.length))
const name = (value = ''): Field => ({ name: 'name', label: t.create.name, kind: 'text', value, hint: t.create.nameHint })

/** Which pool, if there is a choice. */
const poolField = (pools: Pool[]): Field[] => (pools.length > 1 ? [{ name: 'pool', label: w.pool, kind: 'choice', value: pools[0].name, options: pools.map((p) => ({ value: p.name, text: p.name })) }] : [])

export function create(pools: Pool[]): Question {
  const spec = (v: Values) => ({ name: String(v.name), size: Number(v.size), copies: Number(v.copies) || undefined, pool: v.pool ? String(v.pool) : undefined, encrypt: Boolean(v.encrypt) || undefined })
  return {
    title: w.volume.create,
    fields: [
      name(),
      { name: 'size', label: t.storage.size, kind: 'size', hint: w.sizeHint },
      { name: 'copies', label: t.storage.copies, kind: 'number', optional: true, hint: w.copiesHint },
      ...poolField(pools),
      { name: 'encrypt', label: w.encrypt, kind: 'check' },
    ],
    button: w.make,
    cli: (v) => command('volume', 'create', String(v.name), '--size', binary(Number(v.size)), ...(v.copies ? ['--copies', String(v.copies)] : []), ...(v.pool ? ['--pool', String(v.pool)] : []), v.encrypt ? '--encrypt' : ''),
    tried: (v) => post('/v1/volumes', { dryRun: true }, spec(v)),
    act: async (v) => {
      await post('/v1/volumes', {}, spec(v))
      go(String(v.name))
    },
  }
}

/** A host gets an image by itself: nobody has to have it on the computer with the browser. */
export function fetchImage(pools: Pool[]): Question {
  const spec = (v: Values) => ({ name: String(v.name), url: String(v.url), sha256: v.sum ? String(v.sum) : undefined, pool: v.pool ? String(v.pool) : undefined })
  return {
    title: w.image.fetch,
    text: w.image.fetchText,
    fields: [name(), { name: 'url', label: t.alerts.url, kind: 'text', hint: w.image.urlHint }, { name: 'sum', label: w.image.sum, kind: 'text', optional: true, hint: w.image.sumHint }, ...poolField(pools)],
    button: w.image.fetch,
    cli: (v) => command('image', 'import', String(v.url), '--name', String(v.name), ...(v.sum ? ['--sha256', String(v.sum)] : []), ...(v.pool ? ['--pool', String(v.pool)] : [])),
    act: async (v) => (await post('/v1/image-imports', {}, spec(v)), asker.say(w.image.fetching)),
  }
}

export function grow(of: Volume): Question {
  return {
    title: w.volume.grow(of.name),
    text: w.volume.growText,
    fields: [{ name: 'size', label: w.newSize, kind: 'size', value: size(of.size) }],
    losses: async (v) => [Number(v.size) < of.size ? w.volume.smaller : w.volume.grows(size(of.size), size(Number(v.size)))],
    button: w.enlarge,
    cli: (v) => command('volume', 'grow', of.name, binary(Number(v.size))),
    tried: (v) => post('/v1/volumes/{volume}/grow', { volume: of.id, dryRun: true }, { size: Number(v.size) }),
    act: (v) => post('/v1/volumes/{volume}/grow', { volume: of.id }, { size: Number(v.size) }),
  }
}

export function snapshot(of: Volume): Question {
  return {
    title: w.volume.snapshot(of.name),
    text: w.volume.snapshotText,
    fields: [name()],
    button: t.vm.takeSnapshot,
    cli: (v) => command('volume', 'snapshot', of.name, String(v.name)),
    act: (v) => post('/v1/volumes/{volume}/snapshots', { volume: of.id }, { name: String(v.name) }),
  }
}

export interface Snapshot {
  id: string
  name: string
  created: string
}

export function clone(of: Volume, s?: Snapshot): Question {
  return {
    title: w.volume.clone(s ? `${of.name}@${s.name}` : of.name),
    text: w.volume.cloneText,
    fields: [name(`${of.name}-2`), { name: 'size', label: t.storage.size, kind: 'size', optional: true, hint: w.volume.cloneSize(size(of.size)) }],
    button: w.clone,
    cli: (v) => command('volume', 'clone', s ? `${of.name}@${s.name}` : of.name, String(v.name), ...(v.size ? ['--size', binary(Number(v.size))] : [])),
    act: async (v) => {
      await post('/v1/volumes', {}, { name: String(v.name), from: of.name, snapshot: s?.name, size: Number(v.size) || undefined })
      go(String(v.name))
    },
  }
}

/** How much was written since a snapshot, in words; of very many places the first are counted. */
async function since(of: Volume, s: Snapshot): Promise<string> {
  const d = await get('/v1/volumes/{volume}/diff', { volume: of.id, from: s.name, to: 'head' })
  const bytes = (d.extents ?? []).reduce((n, e) => n + e.length, 0)
  return bytes ? w.volume.written(`${d.next ? w.volume.more : ''}${size(bytes)}`) : w.volume.unwritten
}

export function revert(of: Volume, s: Snapshot): Question {
  return {
    title: t.vm.revertTitle(of.name, s.name),
    name: of.name,
    button: t.vm.revert,
    danger: true,
    losses: async () => [w.volume.reverted(when(s.created)), await since(of, s).catch(() => w.volume.unknown)],
    cli: () => command('volume', 'revert', of.name, s.name),
    act: () => post('/v1/volumes/{volume}/revert', { volume: of.id }, { snapshot: s.name }),
  }
}

export function unsnapshot(of: Volume, s: Snapshot): Question {
  return {
    title: t.vm.letGoTitle(s.name),
    text: t.vm.letGoText,
    name: s.name,
    button: t.vm.letGo,
    danger: true,
    cli: () => command('volume', 'unsnapshot', of.name, s.name),
    act: () => remove('/v1/volumes/{volume}/snapshots/{snapshot}', { volume: of.id, snapshot: s.id }),
  }
}

export function move(of: Volume): Question {
  const from = (of.replicas ?? []).map((r) => r.host)
  const hosts = live.hosts.filter((h) => h.state === 'alive' && !h.witness).map((h) => h.name)
  const spec = (v: Record<string, unknown>) => ({ from: String(v.from), to: v.to ? String(v.to) : undefined })
  return {
    title: w.volume.move(of.name),
    text: w.volume.moveText,
    fields: [
      { name: 'from', label: w.from, kind: 'choice', value: from[0], options: from.map((h) => ({ value: h, text: h })) },
      { name: 'to', label: w.to, kind: 'choice', optional: true, value: '', options: [{ value: '', text: w.best }, ...hosts.map((h) => ({ value: h, text: h }))] },
    ],
    losses: async (v) => {
      const m = await post('/v1/volumes/{volume}/move', { volume: of.id }, { ...spec(v), plan: true })
      return [w.volume.moves(m.from, m.to, m.why), t.confirm.nothingLost]
    },
    button: w.move,
    cli: (v) => command('volume', 'move', of.name, '--from', String(v.from), ...(v.to ? ['--to', String(v.to)] : [])),
    act: (v) => post('/v1/volumes/{volume}/move', { volume: of.id }, spec(v)),
  }
}

export function erase(of: Volume): Question {
  const call = (dryRun?: boolean) => (of.image ? remove('/v1/images/{image}', { image: of.id, dryRun }) : remove('/v1/volumes/{volume}', { volume: of.id, dryRun }))
  return {
    title: t.storage.removeTitle(of.name),
    name: of.name,
    button: t.storage.remove,
    danger: true,
    losses: async () => [t.vm.losesDisk(of.name, size(of.size), of.snapshots)],
    cli: () => command(of.image ? 'image' : 'volume', 'delete', of.name),
    tried: () => call(true),
    act: async () => {
      await call()
      router.go('/storage')
    },
  }
}
