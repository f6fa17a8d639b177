#!/usr/bin/env bash
# `make bench-iscsi`: iSCSI of a lab, volumes of one copy and of two, beside tgt
# (Debian: tgt) in one run. Arguments go to the benchmark.
set -euo pipefail
cd "$(dirname "$0")/.."
hf=${HOLDFAST:-bin/holdfast}
dir=$(mktemp -d /tmp/hfbench.XXXXXX)
tgt=
finish() {
  [ -z "$tgt" ] || kill -KILL "$tgt" 2>/dev/null || true # it heeds nothing less while it has targets
  "$hf" lab down --wipe --dir "$dir/lab" >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap finish EXIT
"$hf" lab up --disk-gib 16 --dir "$dir/lab" >/dev/null
at() { "$hf" --socket "$dir/lab/a1/api.sock" "$@"; }
# target NAME COPIES makes a volume and a target of it, and prints its address
# at the host that serves it, which is the first that has a copy.
target() {
  local host addr
  at volume create "$1" --size 512MiB --copies "$2" -o json >"$dir/$1.json"
  at export create "$1" --volume "$1" -o name >/dev/null
  at export allow "$1" '*' -o name >/dev/null
  host=$(sed -n 's/^ *"host": "\(.*\)",/\1/p' "$dir/$1.json" | head -1)
  addr=$(sed -n 's/^iscsi: //p' "$dir/lab/$host/holdfast.yaml")
  echo "$addr/iqn.2026-11.cloud.holdfast:lab.$1/0"
}
args=()
if command -v tgtd >/dev/null; then
  control=32761 port=32760
  truncate -s 512M "$dir/tgt.img"
  tgtd -f -C $control --iscsi portal=127.0.0.1:$port >"$dir/tgt.log" 2>&1 &
  tgt=$!
  adm() { tgtadm -C $control --lld iscsi "$@"; }
  for _ in $(seq 100); do adm --op show --mode target >/dev/null 2>&1 && break; sleep 0.1; done
  adm --op new --mode target --tid 1 -T iqn.2026-11.org.example:tgt
  adm --op new --mode logicalunit --tid 1 --lun 1 -b "$dir/tgt.img"
  adm --op bind --mode target --tid 1 -I ALL
  args+=("tgt=127.0.0.1:$port/iqn.2026-11.org.example:tgt/1")
else
  echo "tgtd is not installed (Debian: tgt); measuring without it" >&2
fi
go run ./bench/iscsi "$@" "${args[@]}" "one copy=$(target one 1)" "two copies=$(target two 2)"
