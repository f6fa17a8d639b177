// What can be done with pools, each as a question.
import { post, remove, type Pool } from '../api'
import type { Question } from '../ask.svelte'
import { command } from '../command'
import { t, type Tier } from '../../strings'

const w = t.pools

export function create(done: () => Promise<unknown>): Question {
  const spec = (v: Record<string, unknown>) => ({ name: String(v.name), tier: v.tier as 'ram' | 'ssd' | 'hdd', copies: Number(v.copies) || undefined, io: v.tier === 'ram' ? undefined : (v.io as 'mixed' | 'cached' | 'direct') })
  return {
    title: w.create,
    text: w.createText,
    fields: [
      { name: 'name', label: t.create.name, kind: 'text', hint: t.create.nameHint },
      { name: 'tier', label: w.tier, kind: 'choice', value: 'ssd', options: (['ssd', 'hdd', 'ram'] as Tier[]).map((k) => ({ value: k, text: w.tiers[k] })) },
      { name: 'copies', label: w.copies, kind: 'number', optional: true, hint: w.copiesHint },
      { name: 'io', label: w.io, kind: 'choice', value: 'mixed', hint: w.ioHint, options: Object.entries(w.ios).map(([value, text]) => ({ value, text })) },
    ],
    button: t.acts.make,
    cli: (v) => command('pool', 'create', String(v.name), '--tier', String(v.tier), ...(v.copies ? ['--copies', String(v.copies)] : []), ...(v.tier !== 'ram' && v.io !== 'mixed' ? ['--io', String(v.io)] : [])),
    tried: (v) => post('/v1/pools', { dryRun: true }, spec(v)),
    act: async (v) => (await post('/v1/pools', {}, spec(v)), await done()),
  }
}

export function erase(p: Pool, done: () => Promise<unknown>): Question {
  const call = (dryRun?: boolean) => remove('/v1/pools/{pool}', { pool: p.name, dryRun })
  return {
    title: w.removeTitle(p.name),
    text: w.removeText,
    name: p.name,
    button: w.remove,
    danger: true,
    losses: async () => [t.confirm.nothingLost],
    cli: () => command('pool', 'delete', p.name),
    tried: () => call(true),
    act: async () => (await call(), await done()),
  }
}
