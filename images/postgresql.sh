# Settles PostgreSQL in the image's tree: sourced by customize.sh.
pg=/usr/lib/postgresql/15/bin
data=/var/lib/postgresql/15/main

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
chroot "$root" systemctl -q enable postgresql@15-main.service seed.service
chroot "$root" systemctl -q disable postgresql.service
