package v1

import "time"

// ExportSpec asks for volumes to be made reachable as one iSCSI target.
type ExportSpec struct {
	Name  string     `json:"name" maxLength:"63"`
	Units []UnitSpec `json:"units" minItems:"1" maxItems:"64" doc:"The volumes, numbered from 0 in this order"`
}

// UnitSpec is one volume of an export.
type UnitSpec struct {
	Volume    string `json:"volume" maxLength:"63" doc:"Name or identity of a volume or image"`
	ReadOnly  bool   `json:"read_only,omitempty"`
	Removable bool   `json:"removable,omitempty" doc:"Initiators may eject and load its medium"`
	BlockSize int    `json:"block_size,omitempty" enum:"512,4096" doc:"Bytes of a logical block; 512 if not given"`
}

// InitiatorSpec lets an initiator log in to an export.
type InitiatorSpec struct {
	Name         string `json:"name" minLength:"1" maxLength:"223" doc:"Its iSCSI name; * for any"`
	User         string `json:"user,omitempty" maxLength:"223" doc:"CHAP name; its iSCSI name if not given"`
	Secret       string `json:"secret,omitempty" maxLength:"255" doc:"CHAP secret, 12 to 255 bytes; none: the name is enough"`
	MutualUser   string `json:"mutual_user,omitempty" maxLength:"223" doc:"CHAP name of the target; its iSCSI name if not given"`
	MutualSecret string `json:"mutual_secret,omitempty" maxLength:"255" doc:"What the target proves to know; none: it proves nothing"`
}

// Export is volumes made reachable as one iSCSI target.
type Export struct {
	ID         string      `json:"id"`
	Name       string      `json:"name"`
	Target     string      `json:"target" doc:"Its iSCSI name"`
	State      string      `json:"state" enum:"closed,idle,served,away" doc:"closed: nobody may log in; idle: nobody has; served: a host runs it; away: that host is lost, the next login moves it"`
	Host       string      `json:"host,omitempty" doc:"Host that runs its units"`
	Units      []Unit      `json:"units"`
	Initiators []Initiator `json:"initiators"`
	Portals    []Portal    `json:"portals" doc:"Where initiators reach it"`
	Created    time.Time   `json:"created"`
}

// Unit is a logical unit of a target.
type Unit struct {
	LUN       int    `json:"lun"`
	Volume    string `json:"volume"`
	Size      int64  `json:"size"`
	ReadOnly  bool   `json:"read_only"`
	Removable bool   `json:"removable"`
	BlockSize int    `json:"block_size"`
}

// Initiator may log in to a target. Secrets are never shown.
type Initiator struct {
	Name       string `json:"name"`
	User       string `json:"user,omitempty"`
	CHAP       string `json:"chap" enum:"none,one-way,mutual"`
	MutualUser string `json:"mutual_user,omitempty"`
}

// Portal is an address where initiators are answered.
type Portal struct {
	Addr  string `json:"addr"`
	Group uint16 `json:"group" doc:"Target portal group tag: one a rack"`
	Host  string `json:"host"`
	Rack  string `json:"rack"`
	State string `json:"state" enum:"optimized,non-optimized,unavailable"`
}
