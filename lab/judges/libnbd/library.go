//go:build libnbd

package main

/*
#cgo pkg-config: libnbd
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <libnbd.h>

// Pairs of length and flags, as they arrive.
struct runs {
	size_t n;
	uint32_t entries[4096];
};

static int collect(void *user, const char *context, uint64_t offset, uint32_t *entries, size_t n, int *error)
{
	struct runs *r = user;
	if (n > sizeof r->entries / sizeof r->entries[0] - r->n) {
		*error = EOVERFLOW;
		return -1;
	}
	memcpy(r->entries + r->n, entries, n * sizeof *entries);
	r->n += n;
	return 0;
}

static int status(struct nbd_handle *h, uint64_t count, uint64_t offset, struct runs *r)
{
	nbd_extent_callback cb = { .callback = collect, .user_data = r };
	return nbd_block_status(h, count, offset, cb, 0);
}

static int64_t aio_pread(struct nbd_handle *h, void *buf, size_t n, uint64_t at)
{
	return nbd_aio_pread(h, buf, n, at, NBD_NULL_COMPLETION, 0);
}

static int64_t aio_pwrite(struct nbd_handle *h, void *buf, size_t n, uint64_t at, uint32_t flags)
{
	return nbd_aio_pwrite(h, buf, n, at, NBD_NULL_COMPLETION, flags);
}

static int64_t aio_zero(struct nbd_handle *h, uint64_t n, uint64_t at, uint32_t flags)
{
	return nbd_aio_zero(h, n, at, NBD_NULL_COMPLETION, flags);
}

static int64_t aio_trim(struct nbd_handle *h, uint64_t n, uint64_t at, uint32_t flags)
{
	return nbd_aio_trim(h, n, at, NBD_NULL_COMPLETION, flags);
}

static int64_t aio_flush(struct nbd_handle *h)
{
	return nbd_aio_flush(h, NBD_NULL_COMPLETION, 0);
}
*/
import "C"

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

// Flags of requests and of runs.
const (
	flagFUA    = C.LIBNBD_CMD_FLAG_FUA
	flagNoHole = C.LIBNBD_CMD_FLAG_NO_HOLE
	stateZero  = C.LIBNBD_STATE_ZERO
)

// failure is what libnbd says of a call that failed.
type failure struct {
	text  string
	errno syscall.Errno // 0: not from the server
}

func (f *failure) Error() string { return fmt.Sprintf("%s (errno %d)", f.text, f.errno) }

// failed returns the thread's last failure.
func failed() error {
	return &failure{C.GoString(C.nbd_get_error()), syscall.Errno(C.nbd_get_errno())}
}

// conn is a connection of libnbd's. The library keeps failures per thread, so
// the goroutine that dials keeps its thread until it closes.
type conn struct {
	h    *C.struct_nbd_handle
	kept []unsafe.Pointer // memory of C's that requests may still use
}

// cookie names a request under way.
type cookie = C.int64_t

func dial(uri string) (*conn, error) {
	runtime.LockOSThread()
	c := &conn{h: C.nbd_create()}
	if c.h == nil {
		defer runtime.UnlockOSThread()
		return nil, failed()
	}
	u, allocation := C.CString(uri), C.CString("base:allocation")
	defer C.free(unsafe.Pointer(u))
	defer C.free(unsafe.Pointer(allocation))
	if C.nbd_add_meta_context(c.h, allocation) < 0 || C.nbd_connect_uri(c.h, u) < 0 {
		err := failed()
		c.close()
		return nil, err
	}
	return c, nil
}

// close ends the connection at once, and with it every request.
func (c *conn) close() {
	C.nbd_close(c.h)
	c.forget()
	runtime.UnlockOSThread()
}

// leave takes leave of the server.
func (c *conn) leave() error {
	if C.nbd_shutdown(c.h, 0) < 0 {
		return failed()
	}
	return nil
}

func (c *conn) size() (int64, error) {
	n := C.nbd_get_size(c.h)
	if n < 0 {
		return 0, failed()
	}
	return int64(n), nil
}

// unchecked has the library send what it knows to be wrong.
func (c *conn) unchecked() error {
	if C.nbd_set_strict_mode(c.h, 0) < 0 {
		return failed()
	}
	return nil
}

// gone tells whether the connection has broken or ended.
func (c *conn) gone() bool { return C.nbd_aio_is_dead(c.h) != 0 || C.nbd_aio_is_closed(c.h) != 0 }

// memory returns n bytes for requests, until forget or close.
func (c *conn) memory(n int) []byte {
	p := C.malloc(C.size_t(n)) // it does not return nil: cgo ends the program then
	c.kept = append(c.kept, p)
	return unsafe.Slice((*byte)(p), n)
}

// forget frees the memory. No request is under way.
func (c *conn) forget() {
	for _, p := range c.kept {
		C.free(p)
	}
	c.kept = nil
}

func sent(k cookie) (cookie, error) {
	if k < 0 {
		return 0, failed()
	}
	return k, nil
}

func (c *conn) read(data []byte, at int64) (cookie, error) {
	return sent(C.aio_pread(c.h, unsafe.Pointer(&data[0]), C.size_t(len(data)), C.uint64_t(at)))
}

func (c *conn) write(data []byte, at int64, flags uint32) (cookie, error) {
	return sent(C.aio_pwrite(c.h, unsafe.Pointer(&data[0]), C.size_t(len(data)), C.uint64_t(at), C.uint32_t(flags)))
}

func (c *conn) zero(n, at int64, flags uint32) (cookie, error) {
	return sent(C.aio_zero(c.h, C.uint64_t(n), C.uint64_t(at), C.uint32_t(flags)))
}

func (c *conn) trim(n, at int64, flags uint32) (cookie, error) {
	return sent(C.aio_trim(c.h, C.uint64_t(n), C.uint64_t(at), C.uint32_t(flags)))
}

func (c *conn) flush() (cookie, error) { return sent(C.aio_flush(c.h)) }

// answered tells whether a request was answered well; an error means that it
// was refused, or never will be answered.
func (c *conn) answered(k cookie) (bool, error) {
	n := C.nbd_aio_command_completed(c.h, C.uint64_t(k))
	if n < 0 {
		return false, failed()
	}
	return n > 0, nil
}

// poll moves what can be moved, after waiting at most a second.
func (c *conn) poll() error {
	if C.nbd_poll(c.h, 1000) < 0 {
		return failed()
	}
	return nil
}

// wait waits for a request just sent.
func (c *conn) wait(k cookie, err error) error {
	for err == nil {
		var ok bool
		if ok, err = c.answered(k); ok {
			return nil
		}
		if err == nil {
			err = c.poll()
		}
	}
	return err
}

// run is what block status says of some bytes.
type run struct {
	bytes int64
	flags uint32
}

// status asks what lies in n bytes. What it says may reach beyond them.
func (c *conn) status(n, at int64) ([]run, error) {
	r := (*C.struct_runs)(unsafe.Pointer(&c.memory(C.sizeof_struct_runs)[0]))
	r.n = 0
	if C.status(c.h, C.uint64_t(n), C.uint64_t(at), r) < 0 {
		return nil, failed()
	}
	var out []run
	for i := 0; i+1 < int(r.n); i += 2 {
		out = append(out, run{int64(r.entries[i]), uint32(r.entries[i+1])})
	}
	return out, nil
}
