package serve

import (
	"context"
	"crypto/rand"
	"io"
	"os"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
)

// keeper is member on a host that keeps cluster keys in its memory.
func (h *Host) keeper() (*member, error) {
	m, err := h.member()
	if err == nil && h.cfg.Witness {
		err = errWitness(h.cfg.Name, "keeps no cluster key")
	}
	return m, err
}

// InitKey implements httpapi.Keys.
func (h *Host) InitKey(ctx context.Context, n httpapi.NewKey) error {
	m, err := h.keeper()
	if err != nil {
		return err
	}
	k, from, err := h.newKey(n)
	if err != nil {
		return err
	}
	return told(m, m.node.Make.InitKey(k, from))
}

// RotateKey implements httpapi.Keys.
func (h *Host) RotateKey(ctx context.Context, n httpapi.NewKey) error {
	m, err := h.keeper()
	if err != nil {
		return err
	}
	k, from, err := h.newKey(n)
	if err != nil {
		return err
	}
	return told(m, m.node.Make.RotateKey(k, from))
}

// told has the others learn that this host has a key, if it was taken.
func told(m *member, err error) error {
	if err == nil {
		m.node.TellKeys()
	}
	return err
}

// newKey returns a key as it is given, or derived under a new salt.
func (h *Host) newKey(n httpapi.NewKey) (keyring.Key, keyring.Source, error) {
	if n.Key != nil {
		return *n.Key, keyring.Source{From: keyring.File}, nil
	}
	a, err := keyring.NewArgon(rand.Reader)
	if err != nil {
		return keyring.Key{}, keyring.Source{}, err
	}
	k, err := h.derive(a, n.Passphrase)
	return k, keyring.Source{From: keyring.Passphrase, Argon: &a}, err
}

// derive makes the key of a passphrase, one at a time for the memory it takes.
func (h *Host) derive(a keyring.Argon, passphrase []byte) (keyring.Key, error) {
	h.deriving.Lock()
	defer h.deriving.Unlock()
	return a.Derive(passphrase)
}

// UnlockKey implements httpapi.Keys. A passphrase is tried with the parameters
// of every key that the cluster has.
func (h *Host) UnlockKey(ctx context.Context, n httpapi.NewKey) error {
	m, err := h.keeper()
	if err != nil {
		return err
	}
	if n.Key != nil {
		return told(m, m.node.Make.LoadKey(*n.Key))
	}
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return err
	}
	err = holdfast.Errorf(holdfast.Invalid, "the cluster's key comes from a key file, not from a passphrase; give that with --file")
	for _, s := range st.Keyring.Val.Keys {
		if s.Argon == nil {
			continue
		}
		var k keyring.Key
		if k, err = h.derive(*s.Argon, n.Passphrase); err != nil {
			return err
		}
		if err = m.node.Make.LoadKey(k); err == nil {
			return told(m, nil)
		}
	}
	return err
}

// loadKeyFile puts the key of the configured file on the ring, before anything
// needs it.
func (h *Host) loadKeyFile(m *member) {
	if h.cfg.KeyFile == "" {
		return
	}
	k, err := readKeyFile(h.cfg.KeyFile)
	if err != nil {
		h.log.Error("the key file was not read; encrypted volumes stay locked here until another host gives the key", "error", err)
		m.node.Condition("key-file", "warning", err.Error())
		return
	}
	m.node.Keys.Add(k)
}

// readKeyFile reads a key file, which nobody but its owner may be able to read.
func readKeyFile(path string) (keyring.Key, error) {
	b, err := readSecret("key file", path, 1024)
	if err != nil {
		return keyring.Key{}, err
	}
	k, err := v1.ParseClusterKey(string(b))
	if err != nil {
		return keyring.Key{}, holdfast.Errorf(holdfast.Invalid, "key file %s: %w", path, err)
	}
	return keyring.Key(k), nil
}

// readSecret reads a file of at most that many bytes that nobody else may read;
// what says in errors what it is.
func readSecret(what, path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "%s: %w", what, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "%s: %w", what, err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, holdfast.Errorf(holdfast.Denied, "%s %s can be read by others (mode %04o); set its mode to 0600", what, path, st.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "%s: %w", what, err)
	}
	return b, nil
}
