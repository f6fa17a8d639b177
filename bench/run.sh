#!/usr/bin/env bash
# `make bench`: a lab of its own with volumes of one copy and of two, measured in
# one run beside nbdkit, qemu-nbd and the raw disk. Arguments go to the benchmark.
# HOLDFAST names another binary to measure.
set -euo pipefail
cd "$(dirname "$0")/.."
hf=${HOLDFAST:-bin/holdfast}
dir=$(mktemp -d /tmp/hfbench.XXXXXX)
trap '"$hf" lab down --wipe --dir "$dir/lab" >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
"$hf" lab up --disk-gib 16 --dir "$dir/lab" >/dev/null
# volume NAME SIZE COPIES [FLAG...] makes a volume; host NAME prints the first
# host that holds it, socket NAME where that host exports it.
volume() {
  "$hf" volume create "$1" --size "$2" --copies "$3" "${@:4}" --socket "$dir/lab/a1/api.sock" -o json >"$dir/$1.json"
}
host() { sed -n 's/^ *"host": "\(.*\)",/\1/p' "$dir/$1.json" | head -1; }
socket() {
  local id path
  id=$(sed -n 's/^  "id": "\(.*\)",/\1/p' "$dir/$1.json" | tr -d - | cut -c1-16)
  path="$dir/lab/$(host "$1")/data/nbd/$id/nbd"
  for _ in $(seq 100); do
    [ -S "$path" ] && break
    sleep 0.1
  done
  echo "$path"
}
# clients NAME COPIES prints the sockets of eight volumes on one host, which
# share its disk as eight VMs would; volumes that were placed elsewhere idle.
clients() {
  local at n=0 i list=""
  for i in $(seq 32); do
    volume "$1$i" 64MiB "$2"
    at=${at:-$(host "$1$i")}
    [ "$(host "$1$i")" = "$at" ] || continue
    list+="${list:+:}$(socket "$1$i")"
    n=$((n + 1))
    [ "$n" -lt 8 ] || break
  done
  echo "$list"
}
volume one 1GiB 1
volume two 1GiB 2
volume always 1GiB 2 --durability always
"$hf" cluster key init --file "$dir/key" --socket "$dir/lab/a1/api.sock" >/dev/null
volume sealed 1GiB 1 --encrypt --compress fast
go run ./bench -one "$(socket one)" -two "$(socket two)" -always "$(socket always)" -sealed "$(socket sealed)" \
  -one-clients "$(clients oneclient 1)" -two-clients "$(clients twoclient 2)" -dir "$dir/peers" "$@"
