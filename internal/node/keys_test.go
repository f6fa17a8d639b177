package node_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

func clusterKey(b byte) keyring.Key { return keyring.Key(bytes.Repeat([]byte{b}, keyring.KeySize)) }

func fromFile() keyring.Source { return keyring.Source{From: keyring.File} }

// loaded reports whether every living host says that it has a key.
func loaded(st *cluster.State, k keyring.Key) bool {
	for _, a := range st.Alive {
		found := false
		for _, id := range a.Val.Keys {
			found = found || id == k.ID()
		}
		if !found {
			return false
		}
	}
	return len(st.Alive) > 0
}

// encrypted makes a volume that is, on any host.
func (s *scene) encrypted(name string) (rec cluster.Volume) {
	s.on(s.boxes[0], func(p *provision.Provisioner) {
		var err error
		rec, err = p.CreateVolume(provision.VolumeSpec{Name: name, Blocks: 64, Encrypt: true})
		s.ok(err)
	})
	s.until("its record is seen", func(st *cluster.State) bool { _, ok := st.Volumes[rec.ID]; return ok })
	return rec
}

// dataKeys unwraps what a volume's record holds.
func (s *scene) dataKeys(id holdfast.VolumeID, under ...keyring.Key) map[holdfast.VolumeID]keyring.Key {
	r := keyring.NewRing()
	for _, k := range under {
		r.Add(k)
	}
	keys, err := r.Unwrap(s.eye.State().Volumes[id].Val.Keys)
	s.ok(err)
	return keys
}

func TestHostsTakeTheClusterKeyFromEachOther(t *testing.T) {
	s := newScene(t, 21, 3)
	a, b := s.boxes[0], s.boxes[1]
	k := clusterKey(1)
	s.on(a, func(p *provision.Provisioner) {
		_, err := p.CreateVolume(provision.VolumeSpec{Name: "early", Blocks: 8, Encrypt: true})
		s.kind(err, holdfast.Invalid)
		s.kind(p.LoadKey(k), holdfast.NotFound)
		s.ok(p.InitKey(k, fromFile()))
		s.kind(p.InitKey(clusterKey(2), fromFile()), holdfast.Exists)
		s.kind(p.LoadKey(clusterKey(2)), holdfast.Denied)
		a.node.TellKeys()
	})
	s.on(b, func(p *provision.Provisioner) { // at once: it takes the key for that
		rec, err := p.CreateVolume(provision.VolumeSpec{Name: "soon", Blocks: 8, Encrypt: true})
		s.ok(err)
		s.ok(p.DeleteVolume(rec.ID, true))
	})
	s.until("all have it", func(st *cluster.State) bool { return loaded(st, k) && len(st.Volumes) == 0 })
	b.pull()
	s.until("b is away", func(st *cluster.State) bool { return !st.AliveHost(b.rec.ID) })
	b.powerOn()
	s.until("b has it again", func(st *cluster.State) bool { return st.AliveHost(b.rec.ID) && loaded(st, k) })
	for _, v := range s.eye.State().Volumes {
		t.Errorf("volume %s was made though it was refused", v.Val.Name)
	}
}

// Hosts are restarted one after the other, each as soon as the one before it
// runs again: the key, which is in their memory only, is not lost. The last
// one to stop does not wait for ever.
func TestHostsThatRestartOneAfterTheOtherKeepTheClusterKey(t *testing.T) {
	s := newScene(t, 24, 2)
	k := clusterKey(1)
	s.on(s.boxes[0], func(p *provision.Provisioner) { s.ok(p.InitKey(k, fromFile())) })
	s.until("both have it", func(st *cluster.State) bool { return loaded(st, k) })
	for i := range 6 {
		b := s.boxes[i%2]
		s.on(b, func(*provision.Provisioner) { b.node.LeaveKeys() })
		b.kill()
		s.run(time.Duration(i) * time.Second) // also longer than its lease
		b.start()
		s.run(time.Millisecond) // its process is there and has read nothing yet
	}
	s.until("both have it again", func(st *cluster.State) bool { return loaded(st, k) && len(st.Alive) == 2 })
	s.boxes[0].kill()
	s.on(s.boxes[1], func(*provision.Provisioner) { s.boxes[1].node.LeaveKeys() })
}

// Power is lost everywhere: nobody has the key any more. The VM on an encrypted
// volume stays down and says why; once the key is given to one host, it runs.
func TestALockedVolumeIsNotOpenedUntilTheKeyIsGiven(t *testing.T) {
	s := newScene(t, 22, 3)
	k := clusterKey(1)
	s.on(s.boxes[0], func(p *provision.Provisioner) { s.ok(p.InitKey(k, fromFile())) })
	s.until("all have it", func(st *cluster.State) bool { return loaded(st, k) })
	secret := s.encrypted("secret")
	if got := s.eye.State().Volumes[secret.ID].Val; !got.Encrypted() {
		t.Fatalf("it is not encrypted: %+v", got)
	}
	s.on(s.boxes[0], func(p *provision.Provisioner) {
		_, err := p.CreateVM(provision.VMSpec{VM: cluster.VM{Name: "db", Volume: secret.ID, CPUs: 1, MemoryMiB: 64, Power: cluster.On}})
		s.ok(err)
	})
	s.until("the VM runs", func(st *cluster.State) bool { return runs(st, "db") })

	for _, b := range s.boxes {
		b.pull()
	}
	s.run(10 * time.Second)
	for _, b := range s.boxes {
		b.powerOn()
	}
	s.until("the VM says why it does not run", func(st *cluster.State) bool {
		vm, _ := st.VMByName("db")
		m := st.Machines[vm.Val.ID].Val
		return m.State == "failed" && strings.Contains(m.Reason, "volume secret is locked: the cluster key is not loaded on host")
	})
	s.on(s.boxes[1], func(p *provision.Provisioner) {
		_, err := p.Volumes.Open(secret.ID)
		s.kind(err, holdfast.Unavailable)
		s.kind(p.LoadKey(clusterKey(9)), holdfast.Denied)
		s.ok(p.LoadKey(k))
	})
	s.until("the VM runs again", func(st *cluster.State) bool { return runs(st, "db") })
}

// A rotation is broken off at every moment of it by a loss of power of the host
// that began it: it is completed by whoever leads then, no data key is lost, and
// the old cluster key opens nothing any more.
func TestARotationIsCompletedWhoeverBeganIt(t *testing.T) {
	for i := range 8 {
		s := newScene(t, uint64(400+i), 3)
		old, next := clusterKey(1), clusterKey(2)
		s.on(s.boxes[0], func(p *provision.Provisioner) { s.ok(p.InitKey(old, fromFile())) })
		s.until("all have the key", func(st *cluster.State) bool { return loaded(st, old) })
		var vols []cluster.Volume
		before := map[holdfast.VolumeID]keyring.Key{}
		for n := range 5 {
			v := s.encrypted(fmt.Sprintf("v%d", n))
			vols = append(vols, v)
			before[v.ID] = s.dataKeys(v.ID, old)[v.ID]
		}
		leader := s.box(s.eye.State().Leader)
		s.on(leader, func(p *provision.Provisioner) { s.ok(p.RotateKey(next, fromFile())) })
		s.on(leader, func(p *provision.Provisioner) {
			if err := p.RotateKey(clusterKey(3), fromFile()); !holdfast.IsKind(err, holdfast.Busy) {
				s.Errorf("a rotation within a rotation: %v", err)
			}
		})
		// The others take the new key within two looks; then it may be lost here.
		s.until("all have the new key", func(st *cluster.State) bool { return loaded(st, next) || len(st.Keyring.Val.Keys) == 1 })
		s.run(time.Duration(i) * 300 * time.Microsecond)
		leader.pull()
		s.until("nothing is under the old key", func(st *cluster.State) bool {
			return len(st.Keyring.Val.Keys) == 1 && st.Keyring.Val.Current().ID == next.ID() && st.LeftToWrap() == 0
		})
		for _, v := range vols {
			if s.dataKeys(v.ID, next)[v.ID] != before[v.ID] {
				t.Errorf("the data key of %s has changed", v.Name)
			}
		}
		s.close()
	}
}

func TestACloneHasAKeyOfItsOwnAndKeepsItsOrigins(t *testing.T) {
	s := newScene(t, 23, 3)
	a := s.boxes[0]
	k := clusterKey(1)
	s.on(a, func(p *provision.Provisioner) { s.ok(p.InitKey(k, fromFile())) })
	var image, clone, plain cluster.Volume
	s.on(a, func(p *provision.Provisioner) {
		var err error
		image, err = p.CreateVolume(provision.VolumeSpec{Name: "image", Blocks: 64, Image: true, Encrypt: true, Compression: "auto"})
		s.ok(err)
		_, err = p.Volumes.Open(image.ID)
		s.ok(err)
		_, err = p.Seal(image.ID, 64)
		s.ok(err)
		clone, err = p.CreateVolume(provision.VolumeSpec{Name: "clone", Origin: &cluster.Origin{Volume: image.ID}})
		s.ok(err)
		plain, err = p.CreateVolume(provision.VolumeSpec{Name: "plain", Blocks: 64, Image: true})
		s.ok(err)
		_, err = p.Seal(plain.ID, 64)
		s.ok(err)
		_, err = p.CreateVolume(provision.VolumeSpec{Name: "refused", Origin: &cluster.Origin{Volume: plain.ID}, Encrypt: true})
		s.kind(err, holdfast.Invalid)
		s.kind(p.DeleteVolume(plain.ID, true), holdfast.Invalid)  // not encrypted
		s.kind(p.DeleteVolume(image.ID, true), holdfast.Conflict) // the clone has its key
	})
	s.until("the clone is there", func(st *cluster.State) bool { _, ok := st.Volumes[clone.ID]; return ok })
	keys := s.dataKeys(clone.ID, k)
	if len(keys) != 2 || keys[clone.ID] == keys[image.ID] || keys[image.ID] != s.dataKeys(image.ID, k)[image.ID] {
		t.Errorf("%d keys, its own is that of its origin: %v", len(keys), keys[clone.ID] == keys[image.ID])
	}
	if clone.Compression != "auto" {
		t.Errorf("compression %q", clone.Compression)
	}
	for _, b := range s.boxes[1:] {
		b.pull() // a copy stands on a host that is away while it is erased
	}
	s.on(a, func(p *provision.Provisioner) { s.ok(p.DeleteVolume(image.ID, false)) })
	s.on(a, func(p *provision.Provisioner) { s.ok(p.DeleteVolume(clone.ID, true)) })
	s.until("the keys are gone while the copies are not", func(st *cluster.State) bool {
		for _, id := range []holdfast.VolumeID{image.ID, clone.ID} {
			if v, ok := st.Volumes[id]; ok && v.Val.Encrypted() {
				return false
			}
		}
		return true
	})
}
