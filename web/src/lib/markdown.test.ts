import { expect, test } from 'vitest'
import { inline, parse } from './markdown'

test('what runbooks are written in', () => {
  expect(parse('# a: b\n\nText of\ntwo lines.\n\n<!-- lab: x -->\n```sh\nholdfast status\n```\n\n- one\n  goes on\n- two\n\n| a | b |\n|---|---|\n| `c` | d |\n\n    typed\n')).toEqual([
    { kind: 'heading', level: 1, text: [{ kind: 'text', text: 'a: b' }] },
    { kind: 'paragraph', text: [{ kind: 'text', text: 'Text of two lines.' }] },
    { kind: 'code', typed: true, text: 'holdfast status' },
    { kind: 'list', ordered: false, items: [[{ kind: 'text', text: 'one goes on' }], [{ kind: 'text', text: 'two' }]] },
    { kind: 'table', head: [[{ kind: 'text', text: 'a' }], [{ kind: 'text', text: 'b' }]], rows: [[[{ kind: 'code', text: 'c' }], [{ kind: 'text', text: 'd' }]]] },
    { kind: 'code', typed: true, text: 'typed' },
  ])
})

test('markup stays text', () => {
  expect(inline('<b>x</b> **y** [z](disk.md)')).toEqual([
    { kind: 'text', text: '<b>x</b> ' },
    { kind: 'strong', text: 'y' },
    { kind: 'text', text: ' ' },
    { kind: 'link', text: 'z', href: 'disk.md' },
  ])
})

test('it ends, whatever it reads', () => {
  for (const text of ['-', '#', '```', '|', '    ', '- ', '\t', '1.', '<!--']) expect(Array.isArray(parse(text))).toBe(true)
})
