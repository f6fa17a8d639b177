package probe

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
)

const (
	sectorSize  = 512
	bootAddress = 0x7c00                   // where a BIOS puts the first sector
	mainAddress = bootAddress + sectorSize // where it puts the rest
	maxProgram  = FirstBlock*BlockSize - sectorSize
)

// Image returns a bootable raw disk image of size bytes, a multiple of
// BlockSize between MinSize and MaxSize. Only its head is returned; whoever
// writes the image leaves everything behind it zero.
func Image(size int64) (head []byte, err error) {
	if size < MinSize || size > MaxSize || size%BlockSize != 0 {
		return nil, holdfast.Errorf(holdfast.Invalid, "a probe image of %d bytes: use a multiple of %d between %d and %d", size, BlockSize, MinSize, MaxSize)
	}
	g := &guest{asm: newAsm(mainAddress), slots: Slots(size)}
	g.program()
	return assemble(g.asm)
}

// WoundImage returns a whole image of size bytes as a guest leaves it that has
// reached a counter: what a new guest then has to verify is work to measure a
// processor by.
func WoundImage(size int64, counter uint32) ([]byte, error) {
	if size > 64<<20 {
		return nil, holdfast.Errorf(holdfast.Invalid, "a wound image of %d bytes: at most 64 MiB are made in memory", size)
	}
	head, err := Image(size)
	if err != nil {
		return nil, err
	}
	img := make([]byte, size)
	copy(img, head)
	slots := Slots(size)
	for i := range min(slots, counter) {
		n := counter - i
		slot := SlotOf(n, slots)
		at := int64(FirstBlock+slot) * BlockSize
		FillBlock(img[at:at+BlockSize], n, slot)
	}
	return img, nil
}

// assemble puts the boot sector before a program for mainAddress.
func assemble(a *asm) ([]byte, error) {
	code, err := a.bytes()
	if err != nil {
		return nil, err
	}
	if len(code) > maxProgram {
		return nil, holdfast.Errorf(holdfast.Invalid, "the probe program has %d bytes, %d fit before the data", len(code), maxProgram)
	}
	sectors := (len(code) + sectorSize - 1) / sectorSize
	head := append(bootSector(sectors), code...)
	return append(head, make([]byte, (sectors+1)*sectorSize-len(head))...), nil
}

// bootSector is the 16-bit part: load the program by the BIOS's extended read
// (INT 13h, AH=42h), switch to 32-bit protected mode with flat segments, jump.
func bootSector(sectors int) []byte {
	const (
		failOff = 0x30
		dapOff  = 0x40
		gdtrOff = 0x50
		gdtOff  = 0x58
	)
	s := make([]byte, sectorSize)
	le := binary.LittleEndian
	lo := func(off int) byte { return byte((bootAddress + off) & 0xff) }
	hi := func(off int) byte { return byte((bootAddress + off) >> 8) }
	code := []byte{
		0xfa,       // cli
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0x8e, 0xc0, // mov es, ax
		0x8e, 0xd0, // mov ss, ax
		0xbc, 0x00, 0x7c, // mov sp, 0x7c00
		0xfb,                         // sti
		0xfc,                         // cld
		0xbe, lo(dapOff), hi(dapOff), // mov si, disk address packet
		0xb4, 0x42, // mov ah, 0x42
		0xcd, 0x13, // int 0x13; dl is still the boot drive
	}
	code = append(code, 0x72, byte(failOff-len(code)-2)) // jc fail
	code = append(code,
		0xfa,       // cli
		0xe4, 0x92, // in al, 0x92
		0x0c, 0x02, // or al, 2: the A20 line
		0xe6, 0x92, // out 0x92, al
		0x0f, 0x01, 0x16, lo(gdtrOff), hi(gdtrOff), // lgdt [gdtr]
		0x0f, 0x20, 0xc0, // mov eax, cr0
		0x0c, 0x01, // or al, 1: protected mode
		0x0f, 0x22, 0xc0, // mov cr0, eax
		0xea, byte(mainAddress&0xff), byte(mainAddress>>8), 0x08, 0x00, // jmp 08:main
	)
	if len(code) > failOff {
		panic("probe: the boot code overlaps its failure path")
	}
	copy(s, code)
	copy(s[failOff:], []byte{
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xb0, '!', // mov al, '!'
		0xee,       // out dx, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp to hlt
	})
	dap := s[dapOff:]
	dap[0] = 16
	le.PutUint16(dap[2:], uint16(sectors))
	le.PutUint16(dap[4:], mainAddress) // segment 0
	le.PutUint64(dap[8:], 1)           // from sector 1
	le.PutUint16(s[gdtrOff:], 3*8-1)
	le.PutUint32(s[gdtrOff+2:], bootAddress+gdtOff)
	copy(s[gdtOff+8:], []byte{0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0})  // 08: code, 4 GiB
	copy(s[gdtOff+16:], []byte{0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0}) // 10: data, 4 GiB
	s[510], s[511] = 0x55, 0xaa
	return s
}
