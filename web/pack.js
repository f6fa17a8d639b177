// Packs what Vite built into internal/ui/dist: each file compressed twice, for
// browsers take one or the other, and SOURCES, the hash of what it was made from.
// internal/ui's test computes the same hash of the sources as they are.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

const web = dirname(fileURLToPath(import.meta.url))
const built = join(web, '../build/ui-dist')
const dist = join(web, '../internal/ui/dist')

// What the build is made of: not what is installed, generated or only tested with.
const apart = ['node_modules', 'test', '.vite', '.gitignore', 'README.md', 'src/lib/schema.d.ts']

function files(dir, skip = []) {
  return readdirSync(dir, { recursive: true })
    .filter((f) => statSync(join(dir, f)).isFile())
    .map((f) => f.split(sep).join('/'))
    .filter((f) => !skip.some((s) => f === s || f.startsWith(s + '/')))
    .sort()
}

function sources() {
  const all = createHash('sha256')
  for (const f of files(web, apart)) {
    all.update(createHash('sha256').update(readFileSync(join(web, f))).digest('hex') + '  ' + f + '\n')
  }
  return all.digest('hex') + '\n'
}

rmSync(dist, { recursive: true, force: true })
let sent = 0
for (const f of files(built)) {
  const content = readFileSync(join(built, f))
  const to = join(dist, f)
  mkdirSync(dirname(to), { recursive: true })
  const br = brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: content.length } })
  const gz = gzipSync(content, { level: 9 })
  writeFileSync(to + '.br', br)
  writeFileSync(to + '.gz', gz)
  sent += gz.length
  console.log(`${relative(built, join(built, f)).padEnd(44)} ${String(content.length).padStart(8)}  gzip ${String(gz.length).padStart(7)}  br ${String(br.length).padStart(7)}`)
}
writeFileSync(join(dist, 'SOURCES'), sources())
console.log(`together ${sent} bytes with gzip`)
