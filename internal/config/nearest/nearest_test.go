package nearest

import "testing"

func TestWhatWasProbablyMeant(t *testing.T) {
	words := []string{"name", "rack", "data_dir", "listen"}
	for typed, want := range map[string]string{
		"rac": "rack", "rcak": "rack", "datadir": "data_dir", "data-dir": "data_dir", "lisen": "listen",
		"": "", "colour": "", "x": "", "nam": "name",
	} {
		if got := Of(typed, words); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
	long := make([]byte, 1<<20)
	if Of(string(long), words) != "" {
		t.Error("a long word is like something")
	}
}
