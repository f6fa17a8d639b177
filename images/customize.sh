#!/bin/sh
# Settles in the image's tree $1, whose file system will have the UUID $2. Runs
# when all packages are there, with apt's lists still in place.
set -eu
root=$1 uuid=$2
pg=/usr/lib/postgresql/15/bin
data=/var/lib/postgresql/15/main

# A file name in /etc, and what it holds.
write() { mkdir -p "$(dirname "$root/etc/$1")"; cat >"$root/etc/$1"; }

# The database: checksums on every page, one superuser who may come from
# anywhere. The drill checks the indexes and tables with amcheck.
chroot "$root" pg_createcluster --start-conf=manual 15 main -- --data-checksums --locale=C.UTF-8 --no-sync >/dev/null
write postgresql/15/main/conf.d/holdfast.conf <<'END'
listen_addresses = '*'
password_encryption = 'scram-sha-256'
shared_buffers = 64MB
jit = off
# As they are by default, and meant: an acknowledged commit is on the disk.
fsync = on
full_page_writes = on
synchronous_commit = on
END
write postgresql/15/main/pg_hba.conf <<'END'
local all all peer
host  all all all password
END
chroot "$root" su postgres -s /bin/sh -c "$pg/postgres --single -D $data -c config_file=/etc/postgresql/15/main/postgresql.conf postgres" >/dev/null <<'END'
CREATE ROLE holdfast SUPERUSER LOGIN PASSWORD 'holdfast'
CREATE DATABASE holdfast OWNER holdfast
END
chroot "$root" su postgres -s /bin/sh -c "$pg/postgres --single -D $data -c config_file=/etc/postgresql/15/main/postgresql.conf holdfast" >/dev/null <<'END'
CREATE EXTENSION amcheck
END

# Debian starts it by way of a Perl program, which takes seconds on an emulated
# processor; the server itself is the same.
write systemd/system/postgresql@15-main.service <<END
[Unit]
Description=PostgreSQL 15
[Service]
Type=notify
User=postgres
ExecStart=$pg/postgres -D $data -c config_file=/etc/postgresql/15/main/postgresql.conf
ExecReload=/bin/kill -HUP \$MAINPID
KillMode=mixed
KillSignal=SIGINT
TimeoutSec=infinity
OOMScoreAdjust=-900
[Install]
WantedBy=multi-user.target
END

write systemd/network/any.network <<'END'
[Match]
Type=ether
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
ClientIdentifier=mac
END

# The host name, and a shell script as user data, from the NoCloud medium that
# Holdfast attaches; the rest of cloud-init stays out.
write systemd/system/seed.service <<'END'
[Unit]
Description=Host name and user data from the NoCloud medium
ConditionPathExists=/dev/disk/by-label/cidata
After=systemd-udev-settle.service local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/seed
[Install]
WantedBy=multi-user.target
END
mkdir -p "$root/usr/local/sbin"
cat >"$root/usr/local/sbin/seed" <<'END'
#!/bin/sh
# Takes the host name from the medium, and runs its user data once per VM if
# that is a script.
set -eu
dir=$(mktemp -d /run/seed.XXXXXX)
mount -o ro /dev/disk/by-label/cidata "$dir"
trap 'umount "$dir"' EXIT
name=$(sed -n 's/^local-hostname: *\([A-Za-z0-9.-]*\)$/\1/p' "$dir/meta-data")
if [ -n "$name" ]; then
  echo "$name" >/etc/hostname
  echo "$name" >/proc/sys/kernel/hostname
fi
id=$(sed -n 's/^instance-id: *\([A-Za-z0-9.-]*\)$/\1/p' "$dir/meta-data")
if [ "$(head -c 2 "$dir/user-data")" = '#!' ] && [ "$(cat /var/lib/seed 2>/dev/null)" != "$id" ]; then
  echo "$id" >/var/lib/seed
  cp "$dir/user-data" /run/user-data && chmod 700 /run/user-data && /run/user-data
fi
END
chmod 755 "$root/usr/local/sbin/seed"

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
chroot "$root" systemctl -q enable systemd-networkd.service postgresql@15-main.service seed.service serial-getty@ttyS0.service
chroot "$root" systemctl -q disable postgresql.service getty@tty1.service systemd-networkd-wait-online.service systemd-pstore.service remote-fs.target
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
