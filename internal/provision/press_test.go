package provision

import "testing"

// The commit of a press may have to be decided again: because of somebody else's
// change, or because its own outcome was not known.
func TestAButtonIsPressedOnce(t *testing.T) {
	var b press
	record := int64(4)
	first := record
	if err := b.once(&first); err != nil || first != 5 {
		t.Fatalf("at first: %d, %v", first, err)
	}
	again := record // somebody else was first, with another change
	if err := b.once(&again); err != nil || again != 5 {
		t.Errorf("decided again: %d, %v", again, err)
	}
	made := first // it was made, and the record was changed again
	if err := b.once(&made); err != errStands || made != 5 {
		t.Errorf("after it was made: %d, %v", made, err)
	}
}
