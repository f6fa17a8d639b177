// What can be done with exports, each as a question, and what is typed where a disk
// is wanted.
import { post, remove, type Export } from '../api'
import type { Question } from '../ask.svelte'
import { command } from '../command'
import { size } from '../format'
import { live } from '../live.svelte'
import { t } from '../../strings'

const w = t.exports

export function create(): Question {
  const free = live.volumes.filter((v) => !v.image && !v.vm && v.state !== 'deleting')
  const units = (v: Record<string, unknown>) => String(v.volumes).split(',').filter(Boolean)
  const spec = (v: Record<string, unknown>) => ({ name: String(v.name), units: units(v).map((volume) => ({ volume, read_only: Boolean(v.readOnly) || undefined, block_size: v.large ? (4096 as const) : undefined })) })
  const unit = (v: Record<string, unknown>, name: string) => [name, v.readOnly && 'read-only', v.large && '4k'].filter(Boolean).join(',')
  return {
    title: w.create,
    text: free.length ? w.createText : w.noVolume,
    fields: [
      { name: 'name', label: t.create.name, kind: 'text', hint: t.create.nameHint },
      { name: 'volumes', label: t.storage.volumes, kind: 'many', options: free.map((v) => ({ value: v.name, text: `${v.name} (${size(v.size)})` })) },
      { name: 'readOnly', label: w.readOnly, kind: 'check' },
      { name: 'large', label: w.large, kind: 'check' },
    ],
    button: t.acts.make,
    cli: (v) => command('export', 'create', String(v.name), ...units(v).flatMap((name) => ['--volume', unit(v, name)])),
    tried: (v) => post('/v1/exports', { dryRun: true }, spec(v)),
    act: (v) => post('/v1/exports', {}, spec(v)),
  }
}

export function allow(x: Export): Question {
  return {
    title: w.allow(x.name),
    text: w.allowText,
    fields: [
      { name: 'name', label: w.initiator, kind: 'text', hint: w.initiatorHint },
      { name: 'secret', label: w.secret, kind: 'secret', optional: true, hint: w.secretHint },
      { name: 'mutual', label: w.mutual, kind: 'secret', optional: true, hint: w.mutualHint },
    ],
    button: w.letIn,
    cli: (v) => command('export', 'allow', x.name, String(v.name), ...(v.secret ? ['--secret-file', 'chap.secret'] : []), ...(v.mutual ? ['--mutual-secret-file', 'mutual.secret'] : [])),
    act: (v) => post('/v1/exports/{export}/initiators', { export: x.id }, { name: String(v.name), secret: v.secret ? String(v.secret) : undefined, mutual_secret: v.mutual ? String(v.mutual) : undefined }),
  }
}

export function deny(x: Export, initiator: string): Question {
  return {
    title: w.denyTitle(initiator, x.name),
    button: w.deny,
    danger: true,
    losses: async () => [w.losesSessions, w.keeps],
    cli: () => command('export', 'deny', x.name, initiator),
    act: () => remove('/v1/exports/{export}/initiators/{initiator}', { export: x.id, initiator }),
  }
}

export function erase(x: Export): Question {
  const call = (dryRun?: boolean) => remove('/v1/exports/{export}', { export: x.id, dryRun })
  return {
    title: w.removeTitle(x.name),
    name: x.name,
    button: w.remove,
    danger: true,
    losses: async () => [w.losesTarget(x.target), w.losesSessions, ...(x.initiators?.length ? [w.losesInitiators(x.initiators.length)] : []), w.keeps],
    cli: () => command('export', 'delete', x.name),
    tried: () => call(true),
    act: () => call(),
  }
}

const order = ['optimized', 'non-optimized', 'unavailable']

/** The portal to be asked first: one beside the data. */
const portal = (x: Export) => [...(x.portals ?? [])].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state))[0]

/** What is typed on a Linux computer to get the disks of an export; '': no host is a portal. */
export function login(x: Export): string {
  const p = portal(x)
  if (!p) return ''
  const chap = x.initiators?.find((i) => i.chap !== 'none')
  const set = (what: string, value: string) => `iscsiadm -m node -T ${x.target} -o update -n node.session.auth.${what} -v ${value}`
  return [
    `iscsiadm -m discovery -t sendtargets -p ${p.addr}`,
    ...(chap ? [set('authmethod', 'CHAP'), set('username', chap.user || chap.name), set('password', w.yourSecret)] : []),
    ...(chap?.chap === 'mutual' ? [set('username_in', chap.mutual_user || x.target), set('password_in', w.itsSecret)] : []),
    `iscsiadm -m node -T ${x.target} --login`,
  ].join('\n')
}

/** The addresses by which programs with an initiator of their own, like QEMU, reach the units. */
export function addresses(x: Export): string {
  const p = portal(x)
  return p ? (x.units ?? []).map((u) => `iscsi://${p.addr}/${x.target}/${u.lun}`).join('\n') : ''
}
