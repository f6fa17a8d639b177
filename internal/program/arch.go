package program

import (
	"encoding/binary"
	"io"

	"github.com/holdfast-cloud/holdfast"
)

// The first bytes of a program (elf(5)): magic, class, byte order, and behind the
// rest of the identification the type and the machine.
const elfHead = 20

// machines are the values of e_machine that Go has names for and Holdfast is built for.
var machines = map[uint16]string{62: "amd64", 183: "arm64", 243: "riscv64", 21: "ppc64le", 22: "s390x"}

// archOf reads for which kind of processor a program is, as Go names it. Invalid: it
// is no program for Linux.
func archOf(r io.ReaderAt, path string) (string, error) {
	var b [elfHead]byte
	n, err := r.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return "", holdfast.Errorf(holdfast.IO, "read %s: %w", path, err)
	}
	arch, err := arch(b[:n])
	if err != nil {
		return "", err
	}
	return arch, nil
}

func arch(b []byte) (string, error) {
	switch {
	case len(b) < elfHead || string(b[:4]) != "\x7fELF":
		return "", holdfast.Errorf(holdfast.Invalid, "the file is no program for Linux: it does not begin as one (ELF); give the binary itself, not a package or an archive of it")
	case b[4] != 2:
		return "", holdfast.Errorf(holdfast.Invalid, "the program is for a processor of 32 bits")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[5] == 2 {
		order = binary.BigEndian
	}
	if kind := order.Uint16(b[16:]); kind != 2 && kind != 3 { // ET_EXEC, ET_DYN
		return "", holdfast.Errorf(holdfast.Invalid, "the file is no program but a part of one (ELF type %d)", kind)
	}
	m := order.Uint16(b[18:])
	name, ok := machines[m]
	if !ok {
		return "", holdfast.Errorf(holdfast.Invalid, "the program is for a processor that Holdfast does not know (ELF machine %d)", m)
	}
	return name, nil
}
