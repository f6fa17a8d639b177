#!/bin/sh
# installer.sh FILE makes a CD-ROM of Debian's own installer, started by a BIOS or by
# UEFI. Debian's archive holds no such file; it holds the installer's kernel and
# initrd for starting from a network, and a loader. It speaks on the serial port.
# Needs grub-mkrescue (grub-common, grub-pc-bin, grub-efi-amd64-bin, xorriso, mtools).
set -eu
out=$(realpath -m "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
cd "$dir"
apt-get download -qq debian-installer-12-netboot-amd64
dpkg-deb -x debian-installer-12-netboot-amd64_*.deb deb
mkdir -p cd/boot/grub
cp deb/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux \
   deb/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/initrd.gz cd/boot/
cat >cd/boot/grub/grub.cfg <<'CFG'
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
menuentry "install" {
  linux /boot/linux console=ttyS0 DEBIAN_FRONTEND=text
  initrd /boot/initrd.gz
}
CFG
grub-mkrescue -o "$out" cd 2>/dev/null
