// The command line that does the same as a form.
import type { VMSpec } from './api'

/** A word as a shell takes it. */
export function quoted(s: string): string {
  return /^[\w@%+=:,./-]+$/.test(s) ? s : `'${s.replaceAll("'", `'\\''`)}'`
}

/** A command of words; undefined, false and '' are left out. */
export function command(...words: (string | undefined | false)[]): string {
  return ['holdfast', ...words.filter(Boolean).map((w) => quoted(String(w)))].join(' ')
}

/** A size as the command line takes it, exactly. */
export function binary(bytes: number): string {
  for (const [unit, of] of [['TiB', 2 ** 40], ['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]] as const) if (bytes >= of && bytes % of === 0) return bytes / of + unit
  return String(bytes)
}

/** What is typed on a host of the cluster to read and write a volume by NBD. */
export function nbd(volume: { id: string; name: string }): string {
  const socket = `/var/lib/holdfast/nbd/${volume.id.replaceAll('-', '').slice(0, 16)}/nbd`
  return [`nbdinfo ${quoted(`nbd+unix:///${volume.name}?socket=${socket}`)}`, `nbd-client -unix ${socket} -N ${quoted(volume.name)} /dev/nbd0`].join('\n')
}

export function createCommand(s: VMSpec): string {
  const out = ['holdfast vm create', quoted(s.name || 'NAME')]
  const flag = (name: string, value: string | undefined) => value && out.push(`--${name} ${quoted(value)}`)
  flag('image', s.image)
  flag('size', s.size ? binary(s.size) : '')
  flag('cdrom', s.cdrom)
  flag('cpus', s.cpus && s.cpus > 1 ? String(s.cpus) : '')
  flag('memory', s.memory_mib ? binary(s.memory_mib * 2 ** 20) : '')
  flag('copies', s.copies ? String(s.copies) : '')
  for (const p of s.publish ?? []) flag('publish', `${p.port}:${p.guest_port}`)
  if (s.user_data) flag('user-data', 'user-data.yaml')
  if (s.ssh_keys?.length) flag('ssh-key', 'keys.pub')
  return out.join(' ')
}
