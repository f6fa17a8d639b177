package visits

import "testing"

func TestPairsAreCounted(t *testing.T) {
	m := Cross("door", []string{"open", "shut"}, []string{"push", "pull"}, func(s, e int) string {
		if s == 1 && e == 0 {
			return "it opens to this side"
		}
		return ""
	})
	c := Of(m)
	c.Hit(0)
	c.Hit(3)
	c.Hit(3)
	if len(m.Pairs) != 4 || m.Pairs[3].String() != "shut, pull" || c.Of[3] != 2 || c.Of[1] != 0 || c.Impossible() != nil {
		t.Errorf("%+v", c)
	}
	c.Hit(2)
	if p := c.Impossible(); p == nil || p.String() != "shut, push" || p.Never == "" {
		t.Errorf("%+v", p)
	}
	(*Counts)(nil).Hit(2)
}
