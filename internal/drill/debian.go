package drill

import (
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// What the Debian image offers: PostgreSQL on its usual port with a database
// and a user that may log in from outside.
const (
	pgPort     = 5432
	pgUser     = "holdfast"
	pgPassword = "holdfast"
	pgDatabase = "holdfast"
	debMemory  = 512 // MiB
	sqlLimit   = 5 * time.Second
	debFirst   = 50 // commits before the plug is pulled
)

// debianGuest is a stock Debian with PostgreSQL. Rows are inserted from
// outside, one commit each, over one published address of a rack that will
// survive; every acknowledged one must be there in the end.
type debianGuest struct {
	d    *drill
	addr string
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	acked   int64 // rows 1 to acked are committed, in order
	before  int64 // as many before the loss
	maybe   int64 // the row whose commit was never answered, 0 if none
	found   int64
	err     error
	answers time.Time // first commit acknowledged after the loss
}

func (g *debianGuest) spec() v1.VMSpec {
	return v1.VMSpec{Name: "drill-debian", Image: "debian", MemoryMiB: debMemory, Priority: "high",
		Publish: []v1.Publish{{Port: pgPort, GuestPort: pgPort}}}
}

func (g *debianGuest) image(ctx context.Context) error {
	var size int64 = -1
	if st, err := os.Stat(g.d.o.ImageFile); err == nil {
		size = st.Size()
	}
	return g.d.cloud.have(ctx, "debian", size, func() (io.ReadCloser, error) {
		f, err := os.Open(g.d.o.ImageFile)
		if err != nil {
			return nil, holdfast.Errorf(holdfast.NotFound, "the Debian image: %w; build it with 'make image', or name one with --image-file", err)
		}
		g.d.say("importing %s, %d MiB", g.d.o.ImageFile, size>>20)
		return f, nil
	})
}

func (g *debianGuest) close() {
	if g.stop != nil {
		g.stop()
		<-g.done
		g.stop = nil
	}
}

func (g *debianGuest) work(ctx context.Context, vm v1.VM) error {
	g.addr = net.JoinHostPort(g.d.cloud.outside(vm.Rack).Addr, strconv.Itoa(pgPort))
	var c *pgConn
	err := g.d.cloud.until(ctx, bootTimeout, "the database to answer", func(ctx context.Context) (bool, string, error) {
		var err error
		c, err = g.dial(ctx)
		return err == nil, "", err
	})
	if err != nil {
		return err
	}
	_, err = c.query("CREATE TABLE drill (id bigint PRIMARY KEY, body text NOT NULL)", time.Minute)
	c.close()
	if err != nil {
		return err
	}
	ctx, g.stop = context.WithCancel(ctx)
	g.done = make(chan struct{})
	go g.insert(ctx)
	err = g.d.cloud.until(ctx, bootTimeout, "the first commits", func(context.Context) (bool, string, error) {
		acked, err := g.progress()
		if err != nil {
			return false, "", stop{err}
		}
		return acked >= debFirst, fmt.Sprintf("%d commits", acked), nil
	})
	if err == nil {
		g.d.say("the database at %s takes commits", g.addr)
	}
	return err
}

func (g *debianGuest) dial(ctx context.Context) (*pgConn, error) {
	return pgDial(ctx, g.addr, pgUser, pgPassword, pgDatabase, sqlLimit)
}

func (g *debianGuest) progress() (int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.acked, g.err
}

// insert commits one row after the other, reconnecting to the same address
// whenever the connection is lost, until ctx ends.
func (g *debianGuest) insert(ctx context.Context) {
	defer close(g.done)
	for ctx.Err() == nil {
		c, err := g.dial(ctx)
		if err == nil {
			err = g.insertOn(ctx, c)
			c.close()
		}
		if err != nil && !holdfast.IsKind(err, holdfast.Unavailable) {
			g.mu.Lock()
			g.err = err
			g.mu.Unlock()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollEvery):
		}
	}
}

func (g *debianGuest) insertOn(ctx context.Context, c *pgConn) error {
	if err := g.settle(c); err != nil {
		return err
	}
	for ctx.Err() == nil {
		g.mu.Lock()
		n := g.acked + 1
		g.maybe = n
		g.mu.Unlock()
		if _, err := c.query(fmt.Sprintf("INSERT INTO drill VALUES (%d, '%s')", n, body(n)), sqlLimit); err != nil {
			return err
		}
		g.acknowledged(n)
	}
	return nil
}

// settle finds out whether the commit that was never answered took place.
func (g *debianGuest) settle(c *pgConn) error {
	g.mu.Lock()
	maybe := g.maybe
	g.mu.Unlock()
	if maybe == 0 {
		return nil
	}
	rows, err := c.query(fmt.Sprintf("SELECT id FROM drill WHERE id = %d", maybe), sqlLimit)
	if err != nil {
		return err
	}
	if len(rows) == 1 {
		g.acknowledged(maybe)
	}
	return nil
}

func (g *debianGuest) acknowledged(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acked, g.maybe = n, 0
	if g.answers.IsZero() && g.cutOff() {
		g.answers = time.Now()
	}
}

// cutOff reports whether the plug has been pulled.
func (g *debianGuest) cutOff() bool {
	g.d.mu.Lock()
	defer g.d.mu.Unlock()
	return !g.d.zero.IsZero()
}

// body is what row n must hold.
func body(n int64) string { return fmt.Sprintf("%x", md5.Sum([]byte(strconv.FormatInt(n, 10)))) }

// cut: a commit may still have been answered after the plug was pulled, by
// what was on its way; the answer that counts comes from another machine.
func (g *debianGuest) cut(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.before = g.acked
	g.d.say("%d commits were acknowledged", g.acked)
	return nil
}

func (g *debianGuest) back(ctx context.Context) error {
	return g.d.cloud.until(ctx, backTimeout, "the database to answer again", func(context.Context) (bool, string, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.err != nil {
			return false, "", stop{g.err}
		}
		if g.answers.IsZero() || !g.d.marked("VM process running") {
			g.answers = time.Time{} // an answer that was on its way
			return false, "no answer yet", nil
		}
		g.d.mark("service answering", g.answers, fmt.Sprintf("first commit at %s", g.addr))
		return true, "", nil
	})
}

func (g *debianGuest) witness(ctx context.Context) ([]Check, error) {
	g.close()
	acked, err := g.progress()
	if err != nil {
		return []Check{{"nothing acknowledged lost", false, err.Error()}}, nil
	}
	c, err := g.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	lost, err := g.compare(c, acked)
	if err != nil {
		return nil, err
	}
	return append(lost, g.integrity(c)), nil
}

// compare reads every row back.
func (g *debianGuest) compare(c *pgConn, acked int64) ([]Check, error) {
	rows, err := c.query("SELECT id, body FROM drill ORDER BY id", time.Minute)
	if err != nil {
		return nil, err
	}
	var missing, wrong int64
	have := map[int64]string{}
	for _, r := range rows {
		if n, err := strconv.ParseInt(r[0], 10, 64); err == nil && len(r) == 2 {
			have[n] = r[1]
		}
	}
	for n := int64(1); n <= acked; n++ {
		switch b, ok := have[n]; {
		case !ok:
			missing++
		case b != body(n):
			wrong++
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.found = int64(len(rows))
	return []Check{
		{"nothing acknowledged lost", missing == 0, fmt.Sprintf("%d commits acknowledged, %d of them missing", acked, missing)},
		{"nothing made up", int64(len(rows)) <= acked+1, fmt.Sprintf("%d rows found, %d asked for", len(rows), acked+1)},
		{"nothing corrupt", wrong == 0, fmt.Sprintf("%d rows with other content than was written", wrong)},
	}, nil
}

// integrity lets PostgreSQL check its own structures: every B-tree index
// against its table, and every page of the table.
func (g *debianGuest) integrity(c *pgConn) Check {
	const what = "the database finds itself intact"
	for _, sql := range []string{
		"CREATE EXTENSION IF NOT EXISTS amcheck",
		"SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND i.indisvalid",
	} {
		if _, err := c.query(sql, 2*time.Minute); err != nil {
			return Check{what, false, err.Error()}
		}
	}
	rows, err := c.query("SELECT msg FROM pg_class c, verify_heapam(c.oid) WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence = 'p'", 2*time.Minute)
	if err != nil {
		return Check{what, false, err.Error()}
	}
	if len(rows) > 0 {
		return Check{what, false, fmt.Sprintf("%d findings, the first: %s", len(rows), rows[0][0])}
	}
	return Check{what, true, "amcheck: all B-tree indexes and all tables"}
}

func (g *debianGuest) counts() (acked, found int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.before, g.found
}
