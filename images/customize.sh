#!/bin/sh
# Settles in the image's tree $1, whose file system will have the UUID $2,
# for the flavour $3. Runs when all packages are there, with apt's lists still in place.
set -eu
root=$1 uuid=$2 flavour=$3

# A file name in /etc, and what it holds.
write() { mkdir -p "$(dirname "$root/etc/$1")"; cat >"$root/etc/$1"; }

. "$(dirname "$0")/$flavour.sh"

echo '# the root file system is mounted by the kernel, with the options that the loader passes' | write fstab
echo debian >"$root/etc/hostname"
write hosts <<'END'
127.0.0.1 localhost debian
END
: >"$root/etc/machine-id" # made at the first boot, another one for every clone
write systemd/journald.conf.d/volatile.conf <<'END'
[Journal]
Storage=volatile
RuntimeMaxUse=8M
END
# A getty only on the serial port; root's password is for the drill, like the
# database's.
echo 'root:holdfast' | chroot "$root" chpasswd
chroot "$root" systemctl -q enable systemd-networkd.service serial-getty@ttyS0.service
chroot "$root" systemctl -q disable getty@tty1.service systemd-networkd-wait-online.service systemd-pstore.service remote-fs.target
chroot "$root" systemctl -q mask getty@tty1.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer \
  systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-network-generator.service \
  sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
  modprobe@configfs.service modprobe@dm_mod.service modprobe@fuse.service modprobe@loop.service modprobe@efi_pstore.service \
  kmod-static-nodes.service getty-static.service systemd-sysusers.service systemd-remount-fs.service \
  dev-hugepages.mount dev-mqueue.mount systemd-rfkill.socket \
  modprobe@drm.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount

# The loader: GRUB with its configuration inside, which reads the kernel from
# the file system by the firmware's disk calls. It needs no device to be
# installed on: see disk.go.
cat >"$root/tmp/load.cfg" <<END
set root=(hd0,msdos1)
linux /vmlinuz root=UUID=$uuid rootfstype=ext4 rootflags=noatime,discard rw console=ttyS0 quiet net.ifnames=0 mitigations=off random.trust_bootloader=on panic=10
initrd /initrd.img
boot
END
chroot "$root" sh -eu -c 'cd /tmp
  apt-get -qq -o APT::Sandbox::User=root download grub-pc-bin grub-common
  for d in *.deb; do dpkg -x $d grub; done
  grub/usr/bin/grub-mkimage -O i386-pc -d grub/usr/lib/grub/i386-pc -p / -c load.cfg -o core.img biosdisk part_msdos ext2 linux boot
  cp grub/usr/lib/grub/i386-pc/boot.img .
  dpkg-query -W -f "\${Package} \${Version}\n" >packages
  rm -rf grub load.cfg *.deb'
