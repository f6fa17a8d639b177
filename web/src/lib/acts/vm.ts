// What can be done with VMs, each as a question.
import { get, patch, post, remove, type VM, type VMSnapshot } from '../api'
import type { Question, Values } from '../ask.svelte'
import { binary, command } from '../command'
import { memory, size } from '../format'
import { live } from '../live.svelte'
import { router, to } from '../router.svelte'
import { t } from '../../strings'

const w = t.acts

const go = (name: string) => router.go(to('vms', name).slice('/ui'.length))
const mib = 2 ** 20

export function edit(vm: VM): Question {
  const images = live.volumes.filter((v) => v.image && v.state !== 'importing')
  const choices = (of: Record<string, string>) => Object.entries(of).map(([value, text]) => ({ value, text }))
  return {
    title: w.vm.edit(vm.name),
    text: vm.power === 'on' ? w.vm.editText : undefined,
    fields: [
      { name: 'name', label: t.create.name, kind: 'text', value: vm.name, hint: t.create.nameHint },
      { name: 'cpus', label: t.create.cpus, kind: 'number', value: vm.cpus },
      { name: 'memory', label: t.create.memory, kind: 'size', value: memory(vm.memory_mib) },
      { name: 'priority', label: t.vm.priority, kind: 'choice', value: vm.priority, options: choices(w.vm.priorities) },
      { name: 'isolation', label: t.vm.isolation, kind: 'choice', value: vm.isolation, options: choices(t.vm.isolations) },
      { name: 'cdrom', label: t.create.cdrom, kind: 'choice', value: vm.cdrom ?? '', options: [{ value: '', text: w.vm.noMedium }, ...images.map((i) => ({ value: i.name, text: i.name }))], optional: true },
    ],
    button: w.change,
    cli: (v) => {
      const flags = Object.entries(changed(vm, v)).flatMap(([k, x]) => {
        if (k === 'memory_mib') return ['--memory', binary(Number(x) * mib)]
        return [`--${k}`, k === 'cdrom' && x === '' ? 'none' : String(x)]
      })
      return command('vm', 'set', vm.name, ...flags)
    },
    tried: async (v) => {
      const set = changed(vm, v)
      if (Object.keys(set).length) await patch('/v1/vms/{vm}', { vm: vm.id, dryRun: true }, set)
    },
    act: async (v) => {
      const set = changed(vm, v)
      if (!Object.keys(set).length) return
      await patch('/v1/vms/{vm}', { vm: vm.id }, set)
      if (set.name) go(String(set.name))
    },
  }
}

/** What of a VM was filled in otherwise than it is. */
function changed(vm: VM, v: Record<string, string | number | boolean>): Record<string, string | number> {
  const was: Record<string, string | number> = { name: vm.name, cpus: vm.cpus, memory_mib: vm.memory_mib, priority: vm.priority, isolation: vm.isolation, cdrom: vm.cdrom ?? '' }
  const is: Record<string, string | number> = { name: String(v.name), cpus: Number(v.cpus), memory_mib: Math.round(Number(v.memory) / mib), priority: String(v.priority), isolation: String(v.isolation), cdrom: String(v.cdrom) }
  return Object.fromEntries(Object.entries(is).filter(([k, x]) => x !== was[k]))
}

export function clone(vm: VM, s?: VMSnapshot): Question {
  return {
    title: w.vm.clone(s ? `${vm.name}@${s.name}` : vm.name),
    text: w.vm.cloneText,
    fields: [{ name: 'name', label: t.create.name, kind: 'text', value: `${vm.name}-2`, hint: t.create.nameHint }, { name: 'start', label: w.vm.startIt, kind: 'check', value: true }],
    button: w.clone,
    cli: (v) => command('vm', 'clone', s ? `${vm.name}@${s.name}` : vm.name, String(v.name), !v.start && '--off'),
    act: async (v) => {
      await post('/v1/vms/{vm}/clone', { vm: vm.id }, { name: String(v.name), snapshot: s?.name, off: !v.start || undefined })
      go(String(v.name))
    },
  }
}

export function addDisk(vm: VM): Question {
  const free = live.volumes.filter((v) => !v.image && !v.vm && v.state !== 'deleting')
  const call = (v: Values, dryRun?: boolean) => post('/v1/vms/{vm}/disks', { vm: vm.id, dryRun }, v.volume ? { volume: String(v.volume) } : { size: Number(v.size) })
  return {
    title: w.vm.addDisk(vm.name),
    text: w.vm.addDiskText,
    fields: [
      ...(free.length ? [{ name: 'volume', label: w.vm.which, kind: 'choice' as const, value: '', options: [{ value: '', text: w.vm.fresh }, ...free.map((v) => ({ value: v.name, text: `${v.name} (${size(v.size)})` }))], optional: true }] : []),
      { name: 'size', label: w.vm.freshSize, kind: 'size', value: '20 GiB', optional: true },
    ],
    button: w.add,
    cli: (v) => command('vm', 'disk', 'add', vm.name, ...(v.volume ? ['--volume', String(v.volume)] : ['--size', binary(Number(v.size))])),
    tried: (v) => call(v, true),
    act: (v) => call(v),
  }
}

export function removeDisk(vm: VM, disk: string): Question {
  const call = (dryRun?: boolean) => remove('/v1/vms/{vm}/disks/{disk}', { vm: vm.id, disk, dryRun })
  return {
    title: w.vm.removeDisk(disk, vm.name),
    text: vm.power === 'on' ? w.vm.removeDiskText : undefined,
    button: w.vm.takeAway,
    danger: true,
    losses: async () => [t.vm.keepsDisk(disk)],
    cli: () => command('vm', 'disk', 'remove', vm.name, disk),
    tried: () => call(true),
    act: () => call(),
  }
}

export function resizeDisk(vm: VM, disk: string, is: number): Question {
  const call = (v: Values, dryRun?: boolean) => post('/v1/vms/{vm}/disks/{disk}/resize', { vm: vm.id, disk, dryRun }, { size: Number(v.size) })
  return {
    title: w.volume.grow(disk),
    text: w.volume.growText,
    fields: [{ name: 'size', label: w.newSize, kind: 'size', value: size(is) }],
    losses: async (v) => [Number(v.size) < is ? w.volume.smaller : w.volume.grows(size(is), size(Number(v.size)))],
    button: w.enlarge,
    cli: (v) => command('vm', 'disk', 'resize', vm.name, disk, '--size', binary(Number(v.size))),
    tried: (v) => call(v, true),
    act: (v) => call(v),
  }
}

export function reset(vm: VM): Question {
  return { title: t.vm.resetTitle(vm.name), text: t.vm.resetText, button: t.vm.reset, danger: true, cli: () => command('vm', 'reset', vm.name), act: () => post('/v1/vms/{vm}/reset', { vm: vm.id }) }
}

export function kill(vm: VM): Question {
  return {
    title: t.vm.killTitle(vm.name),
    text: t.vm.killText,
    name: vm.name,
    button: t.vm.kill,
    danger: true,
    cli: () => command('vm', 'stop', vm.name, '--force'),
    act: () => post('/v1/vms/{vm}/stop', { vm: vm.id }, { force: true }),
  }
}

export function erase(vm: VM): Question {
  const on = vm.power === 'on'
  const call = (dryRun?: boolean) => remove('/v1/vms/{vm}', { vm: vm.id, force: on, dryRun })
  return {
    title: t.vm.removeTitle(vm.name),
    name: vm.name,
    button: t.vm.remove,
    danger: true,
    losses: async () => {
      const boot = await get('/v1/volumes/{volume}', { volume: vm.volume })
      return [
        t.vm.losesDisk(boot.name, size(boot.size), boot.snapshots),
        ...(vm.vars ? [t.vm.losesVars] : []),
        ...(vm.snapshots ? [t.vm.losesSnapshots(vm.snapshots)] : []),
        ...(vm.disks ?? []).slice(1).map((d) => t.vm.keepsDisk(d.volume)),
      ]
    },
    cli: () => command('vm', 'delete', vm.name, on && '--force'),
    tried: () => call(true),
    act: async () => {
      await call()
      router.go('/vms')
    },
  }
}

export function revert(vm: VM, s: VMSnapshot): Question {
  const on = vm.power === 'on'
  return {
    title: t.vm.revertTitle(vm.name, s.name),
    text: t.vm.revertText(on),
    name: vm.name,
    button: t.vm.revert,
    danger: true,
    cli: () => command('vm', 'snapshot', 'revert', vm.name, s.name, on && '--stop'),
    act: () => post('/v1/vms/{vm}/snapshots/{snapshot}/revert', { vm: vm.id, snapshot: s.id }, { stop: on }),
  }
}

export function letGo(vm: VM, s: VMSnapshot, done: () => Promise<unknown>): Question {
  return {
    title: t.vm.letGoTitle(s.name),
    text: t.vm.letGoText,
    name: s.name,
    button: t.vm.letGo,
    danger: true,
    cli: () => command('vm', 'snapshot', 'delete', vm.name, s.name),
    act: async () => {
      await remove('/v1/vms/{vm}/snapshots/{snapshot}', { vm: vm.id, snapshot: s.id })
      await done()
    },
  }
}
