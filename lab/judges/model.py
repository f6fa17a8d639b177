# A client of libnbd that remembers what each block may hold, and checks it.
#
# Arguments: seed, size, lossy (0 or 1), file, URI...
# It works at one URI until that breaks, then at another, until the file
# exists; then it reads everything once more and prints what it did.
#
# A block of 4096 bytes holds a version: zeroes, or its number and version all
# over. An answered write is there from then on. A write whose answer never
# came may be there or not. Once read, it stays. If all power may be lost
# (lossy), a block may fall back to what it held at the last flush or FUA, or
# to anything written since.
import json, os, random, struct, sys, time
import nbd

seed, size, lossy, stop = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1", sys.argv[4]
uris = sys.argv[5:]
rnd = random.Random(seed)
B = 4096
blocks = size // B
may = [{0} for _ in range(blocks)]      # what may be read now
fallback = [{0} for _ in range(blocks)] # what may be read after a loss of power
version = 0
did = dict(writes=0, reads=0, flushes=0, zeroes=0, statuses=0, refused=0, reconnects=0, unanswered=0)


def content(b, v):
    return bytes(B) if v == 0 else struct.pack("<QQ", b, v) * (B // 16)


def wrong(text):
    print(json.dumps(dict(wrong=text, did=did)))
    sys.exit(1)


def check(first, data):
    for i in range(len(data) // B):
        got, b = bytes(data[i * B:(i + 1) * B]), first + i
        v = 0 if got == bytes(B) else struct.unpack("<QQ", got[:16])[1]
        if got != content(b, v) or v not in may[b]:
            wrong("block %d reads as version %d (%s...), it may hold %s" % (b, v, got[:24].hex(), sorted(may[b])))
        may[b] = {v}


def connect():
    deadline = time.monotonic() + 120
    said = ""
    while time.monotonic() < deadline:
        h = nbd.NBD()
        h.add_meta_context("base:allocation")
        try:
            h.connect_uri(rnd.choice(uris))
            if h.get_size() != size:
                wrong("the volume has %d bytes, not %d" % (h.get_size(), size))
            return h
        except nbd.Error as e:
            said = str(e)
            time.sleep(0.05)
    wrong("no host lets this client in: " + said)


def refusals(h):
    # What is beyond the end is refused, and the connection lives on.
    h.set_strict_mode(0)
    for call in (lambda: h.pread(B, size), lambda: h.pwrite(bytes(B), size - 512), lambda: h.zero(B, size),
                 lambda: h.trim(B, size), lambda: h.pread(512, 1 << 62)):
        try:
            call()
        except nbd.Error as e:
            if e.errnum == 0 or h.aio_is_dead() or h.aio_is_closed():
                wrong("a request beyond the end ended the connection: " + str(e))
            did["refused"] += 1
        else:
            wrong("a request beyond the end was answered")


def batch(h):
    """Some requests at once, of blocks that are not each other's."""
    global version
    taken, todo = set(), []
    for _ in range(rnd.randrange(1, 17)):
        n = rnd.choice((1, 1, 1, 2, 4, 16, 40))
        span = blocks if rnd.random() < 0.5 else blocks // 8
        b = rnd.randrange(max(1, span - n))
        if taken.isdisjoint(range(b, b + n)):
            taken.update(range(b, b + n))
            todo.append((b, n))
    flying = []
    for b, n in todo:
        k, fua = rnd.random(), rnd.random() < 0.1
        flags = nbd.CMD_FLAG_FUA if fua else 0
        version += 1
        v = version
        if k < 0.45:
            data = nbd.Buffer.from_bytearray(bytearray(b"".join(content(b + i, v) for i in range(n))))
            what, cookie = "writes", h.aio_pwrite(data, b * B, flags=flags)
        elif k < 0.6:
            v, data = 0, None
            if k < 0.53:
                cookie = h.aio_zero(n * B, b * B, flags=flags | (nbd.CMD_FLAG_NO_HOLE if rnd.random() < 0.5 else 0))
            else:
                cookie = h.aio_trim(n * B, b * B, flags=flags)
            what = "zeroes"
        else:
            data = nbd.Buffer(n * B)
            what, cookie = "reads", h.aio_pread(data, b * B)
        if what != "reads":  # from here on it may be there
            for i in range(b, b + n):
                may[i] = may[i] | {v}
                fallback[i] = fallback[i] | {v}
        flying.append((cookie, what, b, n, v, fua, data))
    while flying:
        h.poll(1000)
        left = []
        for f in flying:
            cookie, what, b, n, v, fua, data = f
            try:
                ready = h.aio_command_completed(cookie)
            except nbd.Error:
                did["unanswered"] += len(flying)
                raise
            if not ready:
                left.append(f)
                continue
            did[what] += 1
            if what == "reads":
                check(b, data.to_bytearray())
                continue
            for i in range(b, b + n):
                may[i] = {v}
                if fua:
                    fallback[i] = {v}
        if h.aio_is_dead() or h.aio_is_closed():
            did["unanswered"] += len(left)
            raise nbd.Error("the connection is dead", 0)
        flying = left


def flush(h):
    h.flush()
    did["flushes"] += 1
    for i in range(blocks):
        fallback[i] = set(may[i])


def status(h):
    """What is called a hole full of zeroes reads as zeroes."""
    b = rnd.randrange(blocks - 64)
    runs = []
    h.block_status(64 * B, b * B, lambda ctx, off, e, err: runs.extend(e) or 0)
    at = b * B
    for length, flags in zip(runs[::2], runs[1::2]):
        for i in range(at // B, min((at + length) // B, blocks)):
            if flags & nbd.STATE_ZERO:
                if 0 not in may[i]:
                    wrong("block %d is said to be zero, it may hold %s" % (i, sorted(may[i])))
                may[i] = {0}
        at += length
    did["statuses"] += 1


def everything(h):
    for b in range(0, blocks, 256):
        check(b, h.pread(min(256, blocks - b) * B, b * B))


h = None
while True:
    try:
        if h is None:
            h = connect()
            if lossy:
                may = [m | f for m, f in zip(may, fallback)]
            everything(h)
            refusals(h)
        if os.path.exists(stop):
            flush(h)
            everything(h)
            h.shutdown()
            break
        k = rnd.random()
        if k < 0.80:
            batch(h)
        elif k < 0.93:
            flush(h)
        else:
            status(h)
    except nbd.Error as e:
        if h is not None and not (h.aio_is_dead() or h.aio_is_closed()):
            wrong("a request was refused: " + str(e))
        h = None
        did["reconnects"] += 1
print(json.dumps(dict(did=did)))
