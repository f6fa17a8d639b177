package baddays

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// What cloud-init is asked to do: something at every boot, and something once
// in the VM's life, each told on the serial port.
const cloudConfig = `#cloud-config
hostname: named-by-user-data
write_files:
  - path: /etc/from-user-data
    content: the file is there
bootcmd:
  - echo "BOOTED $(cat /proc/sys/kernel/random/boot_id) END" >/dev/ttyS0
runcmd:
  - echo "ONCE $(cat /proc/sys/kernel/random/uuid) END" >/dev/ttyS0
  - echo "FILE $(cat /etc/from-user-data) END" >/dev/ttyS0
  - echo "HOST $(hostname) END" >/dev/ttyS0
  - echo "KEYS $(cat /home/debian/.ssh/authorized_keys) END" >/dev/ttyS0
  - echo "INSTANCE $(cat /var/lib/cloud/data/instance-id) END" >/dev/ttyS0
  - echo "SOURCE $(cat /var/lib/cloud/instance/datasource) END" >/dev/ttyS0
final_message: "FINAL $datasource after $uptime s END"
`

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl somebody@example"

// TestCloudInit drives Debian's own cloud-init, in the image that
// HOLDFAST_CLOUD_IMAGE names, with the medium that Holdfast makes: `make
// judge-cloud-init`. Without hardware virtualization it takes minutes.
func TestCloudInit(t *testing.T) {
	image := os.Getenv("HOLDFAST_CLOUD_IMAGE")
	if image == "" {
		t.Skip("not tested: HOLDFAST_CLOUD_IMAGE names no disk with cloud-init ('make judge-cloud-init' builds one and runs this)")
	}
	needs(t, "qemu-system-x86_64")
	s := newLab(t, 1, lab.DefaultDiskSize)
	h := s.l.Hosts[0]
	dir := t.TempDir()
	data, key := filepath.Join(dir, "user-data"), filepath.Join(dir, "key.pub")
	for path, text := range map[string]string{data: cloudConfig, key: publicKey + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.done(h, nil, "image", "import", image, "--name", "cloud")
	s.done(h, nil, "vm", "create", "guest", "--image", "cloud", "--memory", "512MiB", "--user-data", data, "--ssh-key", key)
	vm := s.running("guest", 0)
	said := s.listenTo("guest")
	begin := time.Now()
	await := func(what string, finals int) {
		t.Helper()
		final := regexp.MustCompile(`FINAL [^\n]* END`)
		for said.different(final) < finals {
			if time.Since(begin) > 10*time.Minute {
				t.Fatalf("waited ten minutes for %s; the guest said last:\n%s", what, said.end())
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("%s: %v", what, time.Since(begin).Round(time.Second))
	}
	await("the first boot", 1)
	for _, want := range []string{
		"FILE the file is there END", "HOST named-by-user-data END", "KEYS " + publicKey + " END", "INSTANCE " + vm.ID + " END", "DataSourceNoCloud",
	} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the guest never said %q", want)
		}
	}
	s.done(h, nil, "vm", "reset", "guest")
	await("the second boot", 2)
	booted, once := said.different(regexp.MustCompile(`BOOTED \S+ END`)), said.different(regexp.MustCompile(`ONCE \S+ END`))
	if booted != 2 || once != 1 {
		t.Errorf("what belongs to every boot ran %d times in 2 boots, what belongs to an instance %d times", booted, once)
	}
	if t.Failed() {
		t.Logf("the guest said:\n%s", said)
	}
}
