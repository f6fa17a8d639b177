// The part of Markdown that runbooks are written in, as a tree of texts: it is
// shown as text only, never as HTML.
export type Inline = { kind: 'text' | 'code' | 'strong'; text: string } | { kind: 'link'; text: string; href: string }
export type Block =
  | { kind: 'heading'; level: number; text: Inline[] }
  | { kind: 'paragraph'; text: Inline[] }
  | { kind: 'list'; ordered: boolean; items: Inline[][] }
  | { kind: 'code'; typed: boolean; text: string } // typed: what a person types
  | { kind: 'table'; head: Inline[][]; rows: Inline[][][] }

const inlines = /`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)\s]+)\)/g

export function inline(text: string): Inline[] {
  const out: Inline[] = []
  let end = 0
  for (const m of text.matchAll(inlines)) {
    if (m.index > end) out.push({ kind: 'text', text: text.slice(end, m.index) })
    if (m[1] !== undefined) out.push({ kind: 'code', text: m[1] })
    else if (m[2] !== undefined) out.push({ kind: 'strong', text: m[2] })
    else out.push({ kind: 'link', text: m[3], href: m[4] })
    end = m.index + m[0].length
  }
  if (end < text.length) out.push({ kind: 'text', text: text.slice(end) })
  return out
}

const cells = (line: string) =>
  line.trim().replace(/^\||\|$/g, '').split('|').map((c) => inline(c.trim()))

export function parse(source: string): Block[] {
  const lines = source.replace(/<!--[\s\S]*?-->\n?/g, '').split('\n')
  const out: Block[] = []
  let i = 0
  const some = (test: (line: string) => boolean) => {
    const from = i
    while (i < lines.length && test(lines[i])) i++
    return lines.slice(from, i)
  }
  while (i < lines.length) {
    const line = lines[i]
    const heading = /^(#{1,4}) (.*)$/.exec(line)
    if (!line.trim()) {
      i++
    } else if (heading) {
      out.push({ kind: 'heading', level: heading[1].length, text: inline(heading[2]) })
      i++
    } else if (line.startsWith('```')) {
      i++
      const text = some((l) => !l.startsWith('```')).join('\n')
      i++
      out.push({ kind: 'code', typed: line.startsWith('```sh'), text })
    } else if (/^( {4}|\t)/.test(line)) {
      const text = some((l) => /^( {4}|\t)/.test(l) || (!l.trim() && /^( {4}|\t)/.test(lines[i + 1] ?? '')))
      out.push({ kind: 'code', typed: true, text: text.map((l) => l.replace(/^( {4}|\t)/, '')).join('\n') })
    } else if (line.startsWith('|')) {
      const [head, , ...rows] = some((l) => l.startsWith('|')).map(cells)
      out.push({ kind: 'table', head, rows })
    } else if (/^([-*]|\d+\.) /.test(line)) {
      const ordered = /^\d/.test(line)
      const items: string[] = []
      for (const l of some((l) => /^([-*]|\d+\.) /.test(l) || /^ +\S/.test(l))) {
        if (/^([-*]|\d+\.) /.test(l)) items.push(l.replace(/^([-*]|\d+\.) /, ''))
        else items[items.length - 1] += ' ' + l.trim()
      }
      out.push({ kind: 'list', ordered, items: items.map(inline) })
    } else {
      const text = some((l) => !!l.trim() && !/^(#{1,4} |```|\||([-*]|\d+\.) )/.test(l))
      if (!text.length) text.push(lines[i++]) // nothing known: as it is
      out.push({ kind: 'paragraph', text: inline(text.map((l) => l.trim()).join(' ')) })
    }
  }
  return out
}
