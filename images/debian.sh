#!/bin/sh
# Builds the files of the Debian image in the directory $1, as root: the disk's
# root file system, the loader's two parts and the list of packages. The mirror
# is the one that this machine's apt uses for Debian, or Debian's own.
# $2 is the file system's UUID, $3 its size in KiB, $4 where it starts in
# disk.raw, in bytes, $5 who owns the result, and $6 what is in it: postgresql,
# or cloud-init.
set -eu
work=$1 uuid=$2 size=$3 offset=$4 owner=$5 flavour=$6
here=$(dirname "$0")
suite=bookworm

apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)|$(CREATED_BY)' 2>/dev/null |
  sed -n "s/^\(deb [^|]* $suite\(-security\|-updates\)\{0,1\} main\)|Packages\$/\1/p" | sort -u >"$work/sources.list"
grep -q " $suite main" "$work/sources.list" || : >"$work/sources.list" # not a Debian of this release
mirror=
[ -s "$work/sources.list" ] && mirror=$work/sources.list

case $flavour in
postgresql) packages=postgresql-15 ;;
cloud-init) packages=cloud-init,sudo,openssh-server ;;
*) echo "unknown flavour $flavour" >&2 && exit 2 ;;
esac

# What nobody reads in a drill stays out, and so does PostgreSQL's compiler,
# which is switched off: a fifth of the image.
mmdebstrap --mode=root --variant=apt --format=directory \
  --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/lib/x86_64-linux-gnu/libLLVM-*' \
  --dpkgopt='path-exclude=/usr/lib/llvm-*' \
  --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/bitcode/*' \
  --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/llvmjit*' \
  --essential-hook='mkdir -p "$1/etc/postgresql-common" "$1/etc/tiny-initramfs"' \
  --essential-hook='printf "create_main_cluster = false\nadd_include_dir = conf.d\n" >"$1/etc/postgresql-common/createcluster.conf"' \
  --essential-hook="echo 'AUTO_MODULES=no INCLUDE_MODULES=virtio_pci,virtio_blk,ext4,crc32c_generic' >\"\$1/etc/tiny-initramfs/tiny-initramfs.conf\"" \
  --include=systemd,systemd-sysv,udev,kmod,iproute2,linux-image-cloud-amd64,tiny-initramfs,$packages \
  --customize-hook="$here/customize.sh \"\$1\" $uuid $flavour" \
  --skip=cleanup/tmp \
  "$suite" "$work/root" $mirror >&2

# The loader was made in the image's own tree, so that nothing of it is needed
# on this machine.
mv "$work/root/tmp/boot.img" "$work/root/tmp/core.img" "$work/root/tmp/packages" "$work/"
rm -rf "$work/root/tmp" && mkdir -m 1777 "$work/root/tmp"

mke2fs -q -F -t ext4 -L root -U "$uuid" -d "$work/root" -m 1 -J size=16 \
  -O ^metadata_csum_seed,^orphan_file -E "offset=$offset,lazy_itable_init=0,lazy_journal_init=0" \
  "$work/disk.raw" "$size"
rm -rf "$work/root"
chown "$owner" "$work/disk.raw" "$work/boot.img" "$work/core.img" "$work/packages" "$work/sources.list"
