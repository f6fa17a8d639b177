// A guest with a shell on its serial port: a Linux kernel and busybox.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Writes vmlinuz and initrd into `to`, from what `make kernel` fetched; false if that is missing. */
export function shell(kernel, to) {
  const boot = join(kernel, 'boot')
  const busybox = ['bin/busybox', 'usr/bin/busybox'].map((p) => join(kernel, p)).find(existsSync)
  const image = existsSync(boot) && readdirSync(boot).find((f) => f.startsWith('vmlinuz'))
  if (!busybox || !image) return false
  writeFileSync(join(to, 'vmlinuz'), readFileSync(join(boot, image)))
  const init = '#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs dev /dev\nexec /bin/busybox sh </dev/ttyS0 >/dev/ttyS0 2>&1\n'
  writeFileSync(join(to, 'initrd'), cpio([
    ['bin', 0o40755, Buffer.alloc(0)], ['dev', 0o40755, Buffer.alloc(0)],
    ['bin/busybox', 0o100755, readFileSync(busybox)], ['init', 0o100755, Buffer.from(init)],
  ]))
  return true
}

/** An archive in the "new ASCII" format of cpio, as the kernel reads it. */
function cpio(files) {
  const parts = []
  const pad = (b) => Buffer.concat([b, Buffer.alloc((4 - (b.length % 4)) % 4)])
  ;[...files, ['TRAILER!!!', 0, Buffer.alloc(0)]].forEach(([name, mode, content], i) => {
    const fields = [i + 1, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0]
    const head = '070701' + fields.map((n) => n.toString(16).padStart(8, '0')).join('')
    parts.push(pad(Buffer.from(head + name + '\0')), pad(content))
  })
  return Buffer.concat(parts)
}
