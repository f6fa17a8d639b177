package etcd_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
	"github.com/holdfast-cloud/holdfast/internal/kv/kvtest"
)

// owner is who runs an etcd, and says who may enter.
type owner struct {
	t     *testing.T
	auth  etcdserverpb.AuthClient
	kv    etcdserverpb.KVClient
	token string
}

func (o *owner) do(f func(ctx context.Context) error) {
	o.t.Helper()
	within(o.t, patience, "the owner is heard", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if o.token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "token", o.token)
		}
		return f(ctx)
	})
}

// withUsers gives an etcd the users root and host, who may use what is below a
// prefix, without asking for them yet.
func withUsers(t *testing.T, p *pki, cfg etcd.MemberConfig, prefix, password string) *owner {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(cfg.ListenClient, "https://"), grpc.WithTransportCredentials(credentials.NewTLS(p.client("a"))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	o := &owner{t: t, auth: etcdserverpb.NewAuthClient(conn), kv: etcdserverpb.NewKVClient(conn)}
	end := append([]byte(nil), prefix...)
	end[len(end)-1]++
	o.do(func(ctx context.Context) error {
		_, err := o.auth.RoleAdd(ctx, &etcdserverpb.AuthRoleAddRequest{Name: "site"})
		return err
	})
	o.do(func(ctx context.Context) error {
		_, err := o.auth.RoleGrantPermission(ctx, &etcdserverpb.AuthRoleGrantPermissionRequest{Name: "site",
			Perm: &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte(prefix), RangeEnd: end}})
		return err
	})
	for user, role := range map[string]string{"root": "root", "host": "site"} {
		o.do(func(ctx context.Context) error {
			_, err := o.auth.UserAdd(ctx, &etcdserverpb.AuthUserAddRequest{Name: user, Password: password})
			return err
		})
		o.do(func(ctx context.Context) error {
			_, err := o.auth.UserGrantRole(ctx, &etcdserverpb.AuthUserGrantRoleRequest{User: user, Role: role})
			return err
		})
	}
	return o
}

// ask has the etcd ask for users, or not.
func (o *owner) ask(on bool, password string) {
	o.t.Helper()
	if on {
		o.do(func(ctx context.Context) error {
			_, err := o.auth.AuthEnable(ctx, &etcdserverpb.AuthEnableRequest{})
			return err
		})
		o.do(func(ctx context.Context) error {
			r, err := o.auth.Authenticate(ctx, &etcdserverpb.AuthenticateRequest{Name: "root", Password: password})
			if err == nil {
				o.token = r.Token
			}
			return err
		})
		return
	}
	o.do(func(ctx context.Context) error {
		_, err := o.auth.AuthDisable(ctx, &etcdserverpb.AuthDisableRequest{})
		return err
	})
	o.token = ""
}

// compact forgets the history, which is the owner's business.
func (o *owner) compact() error {
	o.do(func(ctx context.Context) error {
		r, err := o.kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("any")})
		if err == nil {
			_, err = o.kv.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: r.Header.Revision, Physical: true})
		}
		if err != nil && strings.Contains(err.Error(), "compacted") {
			err = nil
		}
		return err
	})
	return nil
}

// denied waits until an endpoint has said that it does not let the host in: on a
// busy machine it does not answer at once.
func denied(t *testing.T, what string, st *etcd.Store, say string) {
	t.Helper()
	within(t, patience, what, func() error {
		err := st.Look()[0].Err
		if !holdfast.IsKind(err, holdfast.Denied) || !strings.Contains(err.Error(), say) {
			return holdfast.Errorf(holdfast.Other, "%v, want %q", err, say)
		}
		return nil
	})
}

// An etcd with users: who has none is told, who has one may do all that the
// control plane needs below the prefix, and goes on when the password is changed
// and when the owner makes up his mind.
func TestAnEtcdThatAsksForAPassword(t *testing.T) {
	t.Parallel()
	p, cfg, _ := one(t)
	const first, second = "horse", "camel"
	o := withUsers(t, p, cfg, "site1/", first)
	password := atomic.Pointer[string]{}
	is := func(text string) { password.Store(&text) }
	is(first)
	enter := func(prefix string, with bool) *etcd.Store {
		c := etcd.DialConfig{Endpoints: []string{cfg.ListenClient}, TLS: p.client("a"), Prefix: prefix, Fence: "ended", Check: anyEtcd}
		if with {
			c.Login = func() (string, string, error) { return "host", *password.Load(), nil }
		}
		st, err := etcd.Dial(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return st
	}
	early := enter("site1/", true) // the etcd asks for nothing yet
	commit := func(st *etcd.Store) error {
		_, err := st.Commit(nil, []kv.Op{{Key: "k", Value: []byte("v")}})
		return err
	}
	within(t, patience, "a commit before there are users", func() error { return commit(early) })
	o.ask(true, first)
	within(t, patience, "the same client, when there are", func() error { return commit(early) })
	for what, c := range map[string]struct {
		st  *etcd.Store
		say string
	}{
		"no user":        {enter("site1/", false), "--etcd-user"},
		"another prefix": {enter("site2/", true), "grant-permission"},
	} {
		err := commit(c.st)
		if err == nil || strings.Contains(err.Error(), first) {
			t.Errorf("%s: %v", what, err)
		}
		denied(t, what, c.st, c.say)
	}
	t.Run("conformance", func(t *testing.T) {
		kvtest.Run(t, kvtest.Harness{Clock: clock.System{}, Do: func(f func()) { f() },
			Dial: func() kv.Store { return enter("site1/", true) }, Compact: o.compact})
	})
	w := early.Watch("", 0)
	defer w.Close()
	is("not it")
	wrong := enter("site1/", true)
	if err := commit(wrong); !holdfast.IsKind(err, holdfast.Unavailable) || strings.Contains(err.Error(), "not it") {
		t.Errorf("another password: %v", err)
	}
	denied(t, "another password", wrong, "--etcd-password-file")
	o.do(func(ctx context.Context) error {
		_, err := o.auth.UserChangePassword(ctx, &etcdserverpb.AuthUserChangePasswordRequest{Name: "host", Password: second})
		return err
	})
	is(second)
	within(t, patience, "a commit after the password was changed", func() error { return commit(early) })
	within(t, patience, "who knew another comes in", func() error { return commit(wrong) })
	o.do(func(ctx context.Context) error { // whatever became of the owner's own
		r, err := o.auth.Authenticate(ctx, &etcdserverpb.AuthenticateRequest{Name: "root", Password: first})
		if err == nil {
			o.token = r.Token
		}
		return err
	})
	o.ask(false, "")
	within(t, patience, "a commit when it asks no more", func() error { return commit(early) })
	o.ask(true, first)
	within(t, patience, "and when it asks again", func() error { return commit(early) })
}
