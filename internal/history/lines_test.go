package history

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestAHistoryOutlivesItsRecorder(t *testing.T) {
	var r Recorder
	n := r.Begin(Op{Kind: Write, Client: 1, Block: 3, Value: 1, Call: 10, FUA: true})
	m := r.Begin(Op{Kind: Read, Client: 2, Block: 3, Call: 11, Gen: 2})
	g := r.Begin(Op{Kind: Write, Block: 4, Value: 2, Call: 12})
	r.End(n, 20, 0)
	r.End(m, 21, 1)
	r.GiveUp(g, 30)
	r.SetGen(m, 3)
	r.Withdraw(r.Begin(Op{Kind: Revert, Client: 1, Call: 13})) // it was refused
	r.Begin(Op{Kind: Read, Client: 9, Call: 14, Gen: 7})
	r.Except(func(o Op) bool { return o.Gen == 7 })
	want := []Op{
		{Kind: Write, Client: 1, Block: 3, Value: 1, FUA: true, Call: 10, Return: 20},
		{Kind: Read, Client: 2, Block: 3, Value: 1, Gen: 3, Call: 11, Return: 21},
		{Kind: Write, Block: 4, Value: 2, Call: 12, Return: 30, Unknown: true},
	}
	if got := r.Ops(); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	var b bytes.Buffer
	if err := Encode(&b, "v1", r.Ops()); err != nil {
		t.Fatal(err)
	}
	vol, ops, err := Decode(bytes.NewReader(b.Bytes()))
	if err != nil || vol != "v1" || !slices.Equal(ops, want) {
		t.Errorf("%q %+v, %v", vol, ops, err)
	}
	// Who was killed in the middle of a line has taken down what was before it.
	_, ops, err = Decode(bytes.NewReader(b.Bytes()[:b.Len()-5]))
	if err != nil || !slices.Equal(ops, want[:2]) {
		t.Errorf("%+v, %v", ops, err)
	}
}

func TestNobodyRecords(t *testing.T) {
	var r *Recorder
	n := r.Begin(Op{Kind: Read})
	r.End(n, 1, 2)
	r.GiveUp(n, 1)
	r.Withdraw(n)
	r.Except(func(Op) bool { return true })
	r.SetGen(n, 1)
	if ops := r.Ops(); ops != nil {
		t.Errorf("%v", ops)
	}
}

func TestWhatIsNoHistory(t *testing.T) {
	for _, text := range []string{
		"", "\n", "{}\n", `{"holdfast_history":2,"volume":"v"}` + "\n", `{"holdfast_history":1,"volume":"v"}` + "\nnothing\n",
		`{"holdfast_history":1,"volume":"v"}` + "\n" + `{"op":"read","call":3,"return":2}` + "\n",
		`{"holdfast_history":1,"volume":"` + strings.Repeat("v", maxLine) + "\"}\n",
	} {
		if _, _, err := Decode(strings.NewReader(text)); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}

// Whatever is read is refused or can be judged, or is refused by the judge.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"holdfast_history":1,"volume":"v"}` + "\n" + `{"op":"write","value":1,"call":1,"return":2}` + "\n" + `{"op":"read","value":1,"call":3,"return":4}` + "\n"))
	f.Add([]byte(`{"holdfast_history":1,"volume":"v"}` + "\n" + `{"op":"keep","snap":1,"call":1,"return":2}` + "\n" + `{"op":"revert","snap":1,"gen":1,"call":3,"return":0,"unknown":true}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, ops, err := Decode(bytes.NewReader(data))
		if err != nil {
			if !holdfast.IsKind(err, holdfast.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if len(ops) > 12 { // many that overlap may take long
			return
		}
		if _, err := Check(ops); err != nil && !holdfast.IsKind(err, holdfast.Invalid) {
			t.Fatal(err)
		}
	})
}
