package scsi

import "fmt"

// Nexus names an I_T nexus: an initiator port (its iSCSI name and the ISID of
// its session) and a target port. Persistent reservations belong to it, so it
// is the same again when the initiator returns.
type Nexus struct {
	Initiator string
	ISID      [6]byte
	Port      uint16 // relative target port identifier, from 1
}

// String names the nexus for logs.
func (n Nexus) String() string {
	return fmt.Sprintf("%s,i,0x%x via port %d", n.Initiator, n.ISID, n.Port)
}

// transportID returns the iSCSI TransportID with the initiator port's name
// (SPC-4 §7.6.4.6).
func (n Nexus) transportID() []byte {
	name := fmt.Sprintf("%s,i,0x%x", n.Initiator, n.ISID)
	size := max(20, (len(name)+1+3)&^3)
	b := make([]byte, 4+size)
	b[0] = 0x45 // iSCSI, world-wide unique port
	be.PutUint16(b[2:], uint16(size))
	copy(b[4:], name)
	return b
}

// Group is a target port group, as asymmetric access reports it (SPC-4
// §5.11).
type Group struct {
	ID        uint16
	State     byte // AccessOptimized and so on
	Preferred bool
	Ports     []Port
}

// Port is a target port.
type Port struct {
	ID   uint16 // relative target port identifier, from 1
	Name string // the iSCSI target port name: name,t,0xTPGT
}

// The asymmetric access states.
const (
	AccessOptimized    = 0x0
	AccessNonOptimized = 0x1
	AccessStandby      = 0x2
	AccessUnavailable  = 0x3
	AccessTransition   = 0xf
)

// nexusState is what a unit keeps for one nexus; its fields belong to the
// unit's lock.
type nexusState struct {
	nexus    Nexus
	attached bool
	pending  attentions
	prevents bool // PREVENT ALLOW MEDIUM REMOVAL
	// lost says that writes of this nexus which no flush had covered are gone:
	// no write and no flush succeeds on it until the initiator logs out.
	lost bool
}
