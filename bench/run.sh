#!/usr/bin/env bash
# `make bench`: a lab of its own with one volume of one copy and one of two,
# measured in one run beside nbdkit and qemu-nbd. Arguments go to the benchmark.
set -euo pipefail
cd "$(dirname "$0")/.."
hf=bin/holdfast
dir=$(mktemp -d /tmp/hfbench.XXXXXX)
trap '$hf lab down --wipe --dir "$dir/lab" >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
$hf lab up --dir "$dir/lab" >/dev/null
# socket NAME COPIES makes a volume and prints where a host that holds a copy
# of it exports it.
socket() {
  local id host
  $hf volume create "$1" --size 1GiB --copies "$2" --socket "$dir/lab/a1/api.sock" -o json >"$dir/$1.json"
  id=$(sed -n 's/^  "id": "\(.*\)",/\1/p' "$dir/$1.json" | tr -d - | cut -c1-16)
  host=$(sed -n 's/^ *"host": "\(.*\)",/\1/p' "$dir/$1.json" | head -1)
  for _ in $(seq 100); do
    [ -S "$dir/lab/$host/data/nbd/$id/nbd" ] && break
    sleep 0.1
  done
  echo "$dir/lab/$host/data/nbd/$id/nbd"
}
go run ./bench -one "$(socket one 1)" -two "$(socket two 2)" -dir "$dir/peers" "$@"
