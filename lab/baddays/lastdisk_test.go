package baddays

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
	"github.com/holdfast-cloud/holdfast/lab"
)

// TestOneDiskAndAPassphrase: a guest writes to an encrypted disk while all racks
// burn. What is carried out is one data disk; who remembers the passphrase has the
// guest back, with all that it had flushed, on a computer that knew nothing.
func TestOneDiskAndAPassphrase(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	needs(t, "qemu-system-x86_64")
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.done(s.l.Hosts[0], strings.NewReader(passphrase), "cluster", "key", "init", "--passphrase-file", "-")
	s.importSealedProbe()
	w := s.startProbe("witness")
	v := s.inSync("witness")
	h := s.host(v.Replicas[0].Host)
	newest := func() int { return max(revision(t, h.Data()+"/kept/0"), revision(t, h.Data()+"/kept/1")) }
	// What the host has kept by now may be from before the guest was made; what it
	// keeps after one more change is not.
	before := newest()
	s.done(h, nil, "volume", "create", "later", "--size", "1MiB")
	s.until("records that know the guest to be kept", func() (bool, string) { return newest() > before, strconv.Itoa(before) })
	s.until("the newest records to stand on the disk", func() (bool, string) {
		have, on := newest(), revision(t, h.Disk())
		return on >= have, strconv.Itoa(on) + " of " + strconv.Itoa(have)
	})
	w.goesOn()
	for _, rack := range []string{"a", "b", "c"} {
		s.kill(rack)
	}
	acked := w.acknowledged()
	lost := slices.DeleteFunc(slices.Clone(s.l.Hosts), func(o lab.Host) bool { return o.Name == h.Name })
	if err := lab.Destroy(lost, true); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(h.Data()); err != nil {
		t.Fatal(err)
	}
	s.start(h.Rack) // a computer like any other, in no cluster

	s.refused(h, nil, notAllowed, "passphrase", "cluster", "recover", "--from-disk", h.Disk(), "--plan")
	s.refused(h, strings.NewReader("wrong horse battery staple\n"), notAllowed, "", "cluster", "recover", "--from-disk", h.Disk(), "--plan", "--passphrase-file", "-")
	s.done(h, strings.NewReader(passphrase), "cluster", "recover", "--from-disk", h.Disk(), "--yes", "--passphrase-file", "-")
	w.verified(acked)
	t.Logf("flushed before the loss, and found again: %d", acked)
}

// revision finds the highest revision that copies of the records in the first part
// of a file say they are of; 0: none.
func revision(t *testing.T, path string) (rev int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 40<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"revision":([0-9]+)`).FindAllSubmatch(b, -1) {
		if n, err := strconv.Atoi(string(m[1])); err == nil {
			rev = max(rev, n)
		}
	}
	return rev
}

// importSealedProbe imports the probe guest's image, encrypted.
func (s *scene) importSealedProbe() {
	s.t.Helper()
	head, err := probe.Image(probeSize)
	if err != nil {
		s.t.Fatal(err)
	}
	c := client.Socket(s.l.Hosts[0].Socket())
	defer c.Close()
	img := append(head, make([]byte, probeSize-len(head))...)
	if _, err := c.ImportImage(s.t.Context(), client.NewImage{Name: "probe", Size: probeSize, Encrypt: true}, bytes.NewReader(img)); err != nil {
		s.t.Fatal(err)
	}
}
