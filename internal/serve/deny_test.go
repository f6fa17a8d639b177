package serve

import (
	"net/netip"
	"slices"
	"testing"
)

func TestEveryAddressOfAHostIsDenied(t *testing.T) {
	got := prefixes(hostsOf("10.20.1.11:7441", "10.20.1.11:7440", "https://10.20.1.12:7442", "[fd00::1]:7440", "nonsense"))
	for _, want := range []string{"10.20.1.11/32", "10.20.1.12/32", "fd00::1/128"} {
		if !slices.Contains(got, netip.MustParsePrefix(want)) {
			t.Errorf("%s is not denied: %v", want, got)
		}
	}
	if len(got) != 3 {
		t.Errorf("got %v, want three addresses", got)
	}
}
