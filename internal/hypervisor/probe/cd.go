package probe

import "encoding/binary"

const cdSector = 2048

// CD returns a CD-ROM (ISO 9660, El Torito without emulation) that says a line
// at the serial port when it is started from, and then stands still. The line
// has at most 400 bytes.
func CD(line string) []byte {
	const catalog, program, sectors = 19, 20, 22
	img := make([]byte, sectors*cdSector)
	at := func(sector int) []byte { return img[sector*cdSector : (sector+1)*cdSector] }
	copy(at(16), "\x01CD001\x01")
	copy(at(16)[40:], "PROBE")
	binary.LittleEndian.PutUint32(at(16)[80:], sectors)
	binary.BigEndian.PutUint32(at(16)[84:], sectors)
	copy(at(17), "\x00CD001\x01EL TORITO SPECIFICATION") // El Torito 1.0, figure 7
	binary.LittleEndian.PutUint32(at(17)[0x47:], catalog)
	copy(at(18), "\xffCD001\x01")

	entry := at(catalog) // validation entry, then the one that is started from
	copy(entry, "\x01\x00\x00\x00")
	entry[0x1e], entry[0x1f] = 0x55, 0xaa
	var sum uint16
	for i := 0; i < 32; i += 2 {
		sum += binary.LittleEndian.Uint16(entry[i:])
	}
	binary.LittleEndian.PutUint16(entry[0x1c:], -sum)
	entry[0x20] = 0x88                             // may be started from
	binary.LittleEndian.PutUint16(entry[0x26:], 4) // sectors of 512 bytes to load
	binary.LittleEndian.PutUint32(entry[0x28:], program)

	code := at(program)
	n := copy(code, []byte{
		0xfa,       // cli
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xbe, 0x16, 0x7c, // mov si, 0x7c16: the line
		0xba, 0xf8, 0x03, // mov dx, 0x3f8: the first serial port
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz done
		0xee,       // out dx, al
		0xeb, 0xf8, // jmp next
		0xf4,       // done: hlt
		0xeb, 0xfd, // jmp done
	})
	n += copy(code[n:], line[:min(len(line), 400)]+"\r\n")
	return img
}
