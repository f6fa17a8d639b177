// What can be done with schedules of backups, each as a question.
import { patch, post, remove, type Schemas } from '../api'
import type { Field, Question, Values } from '../ask.svelte'
import { command } from '../command'
import { span } from '../format'
import { live } from '../live.svelte'
import { t } from '../../strings'

export type Schedule = Schemas['BackupSchedule']
type Done = () => Promise<unknown>

const w = t.backups
const periods = [3600, 6 * 3600, 12 * 3600, 86_400, 7 * 86_400] // seconds

const list = (v: unknown) => String(v ?? '').split(/[\s,]+/).filter(Boolean)

/** A period as the command line takes it. */
function every(seconds: number): string {
  for (const [unit, of] of [['w', 7 * 86_400], ['d', 86_400], ['h', 3600], ['m', 60]] as const) if (seconds % of === 0) return seconds / of + unit
  return `${seconds}s`
}

/** A period in words. */
export const period = (seconds: number) => w.periods[seconds] ?? w.every(span(seconds * 1000))

function fields(s?: Schedule): Field[] {
  const names = live.volumes.filter((v) => !v.image && v.state !== 'deleting').map((v) => v.name)
  const hosts = live.hosts.filter((h) => !h.witness).map((h) => h.name)
  const steps = [...new Set([...periods, ...(s ? [s.every] : [])])].sort((a, b) => a - b)
  return [
    ...(s ? [] : [{ name: 'name', label: t.create.name, kind: 'text' as const, hint: t.create.nameHint }]),
    { name: 'volumes', label: t.storage.volumes, kind: 'many', value: (s?.volumes ?? []).join(','), options: [...new Set([...names, ...(s?.volumes ?? [])])].map((n) => ({ value: n, text: n })), hint: w.volumesHint },
    { name: 'host', label: w.host, kind: 'choice', value: s?.host ?? hosts[0] ?? '', options: [...new Set([...hosts, ...(s ? [s.host] : [])])].map((h) => ({ value: h, text: h })) },
    { name: 'dir', label: w.dir, kind: 'text', value: s?.dir ?? '', hint: w.dirHint },
    { name: 'every', label: w.howOften, kind: 'choice', value: String(s?.every ?? 86_400), options: steps.map((n) => ({ value: String(n), text: period(n) })) },
    { name: 'keep', label: w.keep, kind: 'text', value: s?.keep ?? 'last=7,weekly=8', optional: true, hint: w.keepHint },
    { name: 'full', label: w.full, kind: 'number', value: String(s?.full_after ?? 30), hint: w.fullHint },
    { name: 'recipients', label: w.recipients, kind: 'text', value: (s?.recipients ?? []).join(' '), optional: true, hint: w.recipientsHint },
    { name: 'plaintext', label: w.plaintext, kind: 'check', value: s?.plaintext ?? false },
  ]
}

const spec = (v: Values) => ({ volumes: list(v.volumes), host: String(v.host), dir: String(v.dir), every: Number(v.every), keep: String(v.keep), full_after: Number(v.full), recipients: list(v.recipients), plaintext: Boolean(v.plaintext) })

function flags(v: Values): string[] {
  const s = spec(v)
  return ['--volumes', s.volumes.join(','), '--on', s.host, '--to', s.dir, '--every', every(s.every), ...(s.keep ? ['--keep', s.keep] : []), ...(s.full_after === 30 ? [] : ['--full-after', String(s.full_after)]), ...s.recipients.flatMap((r) => ['--recipient', r]), ...(s.plaintext ? ['--plaintext'] : [])]
}

export function create(done: Done): Question {
  return {
    title: w.create,
    text: w.createText,
    fields: fields(),
    button: t.acts.make,
    cli: (v) => command('backup', 'schedule', 'create', String(v.name), ...flags(v)),
    act: async (v) => (await post('/v1/backup-schedules', {}, { name: String(v.name), ...spec(v) }), await done()),
  }
}

/** What of a schedule was filled in otherwise than it is. */
function changed(s: Schedule, v: Values) {
  const is = spec(v)
  const was: Record<string, unknown> = { volumes: s.volumes ?? [], host: s.host, dir: s.dir, every: s.every, keep: s.keep ?? '', full_after: s.full_after, recipients: s.recipients ?? [], plaintext: s.plaintext }
  return Object.fromEntries(Object.entries(is).filter(([k, x]) => JSON.stringify(x) !== JSON.stringify(was[k]))) as Partial<typeof is>
}

function changedFlags(s: Schedule, v: Values): string[] {
  const set = changed(s, v)
  const none = (x: string) => x || 'none'
  return [
    ...(set.volumes ? ['--volumes', set.volumes.join(',')] : []),
    ...(set.host ? ['--on', set.host] : []),
    ...(set.dir ? ['--to', set.dir] : []),
    ...(set.every ? ['--every', every(set.every)] : []),
    ...(set.keep !== undefined ? ['--keep', none(set.keep)] : []),
    ...(set.full_after !== undefined ? ['--full-after', String(set.full_after)] : []),
    ...(set.recipients ? (set.recipients.length ? set.recipients : ['none']).flatMap((r) => ['--recipient', r]) : []),
    ...(set.plaintext !== undefined ? [`--plaintext=${set.plaintext}`] : []),
  ]
}

export function edit(s: Schedule, done: Done): Question {
  return {
    title: w.edit(s.name),
    text: w.editText,
    fields: fields(s),
    button: t.acts.change,
    cli: (v) => command('backup', 'schedule', 'set', s.name, ...changedFlags(s, v)),
    act: async (v) => {
      const set = changed(s, v)
      if (Object.keys(set).length) await patch('/v1/backup-schedules/{schedule}', { schedule: s.name }, set)
      await done()
    },
  }
}

export const run = (s: Schedule) => post('/v1/backup-schedules/{schedule}/run', { schedule: s.name })

export function erase(s: Schedule, done: Done): Question {
  return {
    title: w.removeTitle(s.name),
    name: s.name,
    button: w.remove,
    danger: true,
    losses: async () => [w.noMore((s.volumes ?? []).join(', ')), w.keeps(s.host, s.dir)],
    cli: () => command('backup', 'schedule', 'delete', s.name),
    act: async () => (await remove('/v1/backup-schedules/{schedule}', { schedule: s.name }), await done()),
  }
}
