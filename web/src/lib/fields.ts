// What was typed into the fields of a question, and what is wrong with it.
import type { Field, Values } from './ask.svelte'
import { parseSize } from './format'
import { t } from '../strings'

const block = 4096 // bytes; sizes are made of them

/** The values of fields, and of each that cannot be taken why. */
export function read(fields: Field[], typed: Record<string, string | boolean | number>): { values: Values; wrong: Record<string, string> } {
  const values: Values = {}
  const wrong: Record<string, string> = {}
  for (const f of fields) {
    const v = typed[f.name]
    if (f.kind === 'check') {
      values[f.name] = Boolean(v)
      continue
    }
    const text = String(v ?? '').trim()
    if (text === '') {
      values[f.name] = f.kind === 'size' || f.kind === 'number' ? 0 : ''
      if (!f.optional) wrong[f.name] = t.confirm.needed
    } else if (f.kind === 'size') {
      const n = parseSize(text)
      if (n > 0) values[f.name] = Math.ceil(n / block) * block
      else wrong[f.name] = t.create.bad.size
    } else if (f.kind === 'number') {
      const n = Number(text)
      if (Number.isInteger(n) && n >= 0) values[f.name] = n
      else wrong[f.name] = t.confirm.whole
    } else {
      values[f.name] = text
    }
  }
  return { values, wrong }
}
