// What can be done with hosts and racks, each as a question.
import { get, post, type Host, type Removal } from '../api'
import type { Question } from '../ask.svelte'
import { command } from '../command'
import type { Rack } from '../fleet'
import { router } from '../router.svelte'
import { t } from '../../strings'

export function drain(h: Host): Question {
  return {
    title: t.host.drainTitle(h.name),
    text: t.host.drainText,
    button: t.host.drain,
    losses: async () => {
      const d = await post('/v1/hosts/{host}/drain', { host: h.id, dryRun: true }, { on: true })
      return [
        ...(d.moves ?? []).map((m) => (m.stage === 'stays' || !m.to ? t.host.stays(m.vm, m.why) : t.host.moves(m.vm, m.to, m.why))),
        ...(d.written ?? []).map((v) => t.host.written(v)),
      ]
    },
    cli: () => command('host', 'drain', h.name),
    act: () => post('/v1/hosts/{host}/drain', { host: h.id }, { on: true }),
  }
}

export const undrain = (h: Host) => post('/v1/hosts/{host}/drain', { host: h.id }, { on: false })

function consequences(r: Removal): string[] {
  return [
    ...(r.refused ?? []),
    ...(r.vms ?? []).map((m) => (m.to ? t.host.moves(m.vm, m.to, m.why) : t.host.stays(m.vm, m.why))),
    ...(r.volumes ?? []).filter((v) => v.state !== 'whole').map((v) => t.host.volume(v.volume, v.state, v.why)),
    r.control,
  ]
}

export function strike(h: Host): Question {
  const lost = h.state === 'away'
  const call = (dryRun?: boolean) => post('/v1/hosts/{host}/removal', { host: h.id, dryRun }, { lost })
  return {
    title: t.host.removeTitle(h.name),
    text: lost ? t.host.removeLost : t.host.removeDrained,
    name: h.name,
    button: t.host.remove,
    danger: true,
    losses: async () => consequences(await get('/v1/hosts/{host}/removal', { host: h.id, lost })),
    cli: () => command('host', 'remove', h.name, lost && '--lost'),
    tried: () => call(true),
    act: async () => {
      await call()
      router.go('/hosts')
    },
  }
}

export function strikeRack(r: Rack): Question {
  const call = (dryRun?: boolean) => post('/v1/racks/{rack}/removal', { rack: r.name, dryRun }, { lost: r.away })
  return {
    title: t.acts.rack.remove(r.name),
    text: r.away ? t.acts.rack.lost : t.acts.rack.drained,
    name: r.name,
    button: t.host.remove,
    danger: true,
    losses: async () => consequences(await get('/v1/racks/{rack}/removal', { rack: r.name, lost: r.away })),
    cli: () => command('rack', 'remove', r.name, r.away && '--lost'),
    tried: () => call(true),
    act: () => call(),
  }
}
