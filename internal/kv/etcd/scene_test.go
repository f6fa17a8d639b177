package etcd_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
)

// childEnv holds the MemberConfig of a test process that is a member.
const childEnv = "HOLDFAST_TEST_MEMBER"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		child(text)
		return
	}
	goleak.VerifyTestMain(m, leaks()...)
}

// leaks are goroutines that etcd's own libraries keep for the process.
func leaks() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("go.etcd.io/etcd/client/pkg/v3/logutil.(*mergeLogger).outputLoop"),
	}
}

// child runs a member until standard input ends, that is until the test does.
func child(text string) {
	var cfg etcd.MemberConfig
	err := json.Unmarshal([]byte(text), &cfg)
	var m *etcd.Member
	if err == nil {
		m, err = etcd.StartMember(cfg)
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("started")
	io.Copy(io.Discard, os.Stdin)
	m.Close()
}

// pki is a cluster's authority in a directory.
type pki struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	next int64
}

const serverName = "host.test"

func newPKI(t *testing.T) *pki {
	p := &pki{t: t, dir: t.TempDir(), next: 2}
	p.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	p.cert = p.sign("ca", tmpl, tmpl, p.key)
	return p
}

// issue makes DIR/NAME.crt and .key for that DNS name.
func (p *pki) issue(name, dns string) etcd.TLSFiles {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p.next++
	p.sign(name, &x509.Certificate{SerialNumber: big.NewInt(p.next), Subject: pkix.Name{CommonName: name}, DNSNames: []string{dns},
		NotBefore: p.cert.NotBefore, NotAfter: p.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, p.cert, key)
	return etcd.TLSFiles{Cert: p.path(name + ".crt"), Key: p.path(name + ".key"), CA: p.path("ca.crt"), ServerName: serverName}
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pki) sign(name string, tmpl, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	p.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	kder, _ := x509.MarshalPKCS8PrivateKey(key)
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: kder},
	} {
		if err := os.WriteFile(p.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	c, _ := x509.ParseCertificate(der)
	return c
}

// client returns TLS settings with the certificate of that name.
func (p *pki) client(name string) *tls.Config {
	p.t.Helper()
	cert, err := tls.LoadX509KeyPair(p.path(name+".crt"), p.path(name+".key"))
	if err != nil {
		p.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(p.cert)
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: serverName}
}

// member is a member's configuration with ports of its own.
func (p *pki) member(name string) etcd.MemberConfig {
	return etcd.MemberConfig{Name: name, DataDir: filepath.Join(p.t.TempDir(), name), Token: "test",
		ListenPeer: freeURL(p.t), ListenClient: freeURL(p.t), TLS: p.issue(name, serverName)}
}

// patience only ends a hang.
const patience = 2 * time.Minute

// freeURL finds a port at an address that no other run of these tests has:
// until a member takes it, and between its lives, nobody else does.
func freeURL(t *testing.T) string {
	t.Helper()
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 92+pid>>16&7, pid>>8&255, pid&255))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}

// process is a member in a process of its own, to be killed.
type process struct {
	cfg   etcd.MemberConfig
	cmd   *exec.Cmd
	stdin io.Closer
}

func startProcess(t *testing.T, cfg etcd.MemberConfig) *process {
	t.Helper()
	text, _ := json.Marshal(cfg)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cfg: cfg, cmd: cmd, stdin: in}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started\n" {
		t.Fatalf("member %s: %q %v", cfg.Name, line, err)
	}
	return p
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	p.stdin.Close()
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func dial(t *testing.T, conf *tls.Config, urls ...string) *etcd.Store {
	t.Helper()
	st, err := etcd.Dial(etcd.DialConfig{Endpoints: urls, TLS: conf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// within retries f until it succeeds and returns how long it took.
func within(t *testing.T, d time.Duration, what string, f func() error) time.Duration {
	t.Helper()
	begun := time.Now()
	for {
		err := f()
		if err == nil {
			return time.Since(begun)
		}
		if time.Since(begun) > d {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
