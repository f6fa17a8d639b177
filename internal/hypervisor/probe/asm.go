package probe

import (
	"encoding/binary"
	"fmt"
)

// reg is a 32-bit general register, numbered as the processor does.
type reg byte

const (
	eax reg = iota
	ecx
	edx
	ebx
	esp
	ebp
	esi
	edi
)

// aluOp is one of the eight two-operand instructions that share an encoding
// (Intel SDM vol. 2, opcodes 81 /n and 01+8n).
type aluOp byte

const (
	opAdd aluOp = 0
	opOr  aluOp = 1
	opAnd aluOp = 4
	opSub aluOp = 5
	opXor aluOp = 6
	opCmp aluOp = 7
)

// cond is a condition of a jump (the low nibble of 0F 8x); the unsigned ones.
type cond byte

const (
	ifBelow      cond = 2
	ifAboveEqual cond = 3
	ifZero       cond = 4
	ifNotZero    cond = 5
	ifBelowEqual cond = 6
	ifAbove      cond = 7
)

// asm emits 32-bit x86 machine code: just the instructions that the guest
// uses, each in one fixed encoding (32-bit immediates and displacements), so
// that every method is one line of the Intel manual. Labels are resolved by
// bytes.
type asm struct {
	base   uint32 // address of code[0] when it runs
	code   []byte
	labels map[string]uint32
	fixes  []fix
}

// fix is a place that waits for a label's address.
type fix struct {
	at       int
	label    string
	relative bool
}

func newAsm(base uint32) *asm { return &asm{base: base, labels: make(map[string]uint32)} }

func (a *asm) emit(b ...byte) { a.code = append(a.code, b...) }
func (a *asm) imm(v uint32)   { a.code = binary.LittleEndian.AppendUint32(a.code, v) }

// here is the address of the next byte.
func (a *asm) here() uint32 { return a.base + uint32(len(a.code)) }

// label names the next byte.
func (a *asm) label(name string) {
	if _, dup := a.labels[name]; dup {
		panic("probe: label " + name + " is defined twice")
	}
	a.labels[name] = a.here()
}

func (a *asm) ref(label string, relative bool) {
	a.fixes = append(a.fixes, fix{at: len(a.code), label: label, relative: relative})
	a.imm(0)
}

// bytes resolves the labels and returns the code.
func (a *asm) bytes() ([]byte, error) {
	for _, f := range a.fixes {
		v, ok := a.labels[f.label]
		if !ok {
			return nil, fmt.Errorf("probe: label %s is not defined", f.label)
		}
		if f.relative {
			v -= a.base + uint32(f.at) + 4
		}
		binary.LittleEndian.PutUint32(a.code[f.at:], v)
	}
	return a.code, nil
}

// Moves.

func (a *asm) movI(d reg, v uint32)                { a.emit(0xb8 + byte(d)); a.imm(v) }
func (a *asm) movLabel(d reg, label string)        { a.emit(0xb8 + byte(d)); a.ref(label, false) }
func (a *asm) mov(d, s reg)                        { a.emit(0x89, 0xc0|byte(s)<<3|byte(d)) }
func (a *asm) loadVar(d reg, addr uint32)          { a.emit(0x8b, byte(d)<<3|5); a.imm(addr) }
func (a *asm) storeVar(addr uint32, s reg)         { a.emit(0x89, byte(s)<<3|5); a.imm(addr) }
func (a *asm) storeVarI(addr, v uint32)            { a.emit(0xc7, 5); a.imm(addr); a.imm(v) }
func (a *asm) incVar(addr uint32)                  { a.emit(0xff, 5); a.imm(addr) }
func (a *asm) load(d, base reg, off uint32)        { a.mem(off, base, d, 0x8b) }
func (a *asm) store(base reg, off uint32, s reg)   { a.mem(off, base, s, 0x89) }
func (a *asm) load8(d, base reg, off uint32)       { a.mem(off, base, d, 0x0f, 0xb6) } // zero-extended
func (a *asm) load16(d, base reg, off uint32)      { a.mem(off, base, d, 0x0f, 0xb7) } // zero-extended
func (a *asm) store16(base reg, off uint32, s reg) { a.mem(off, base, s, 0x66, 0x89) }

// mem emits op with a [base+off] operand; base is never esp, whose encoding
// differs.
func (a *asm) mem(off uint32, base, r reg, op ...byte) {
	a.emit(op...)
	a.emit(0x80 | byte(r)<<3 | byte(base))
	a.imm(off)
}

// Arithmetic.

func (a *asm) alu(op aluOp, d, s reg)         { a.emit(byte(op)<<3|1, 0xc0|byte(s)<<3|byte(d)) }
func (a *asm) aluI(op aluOp, d reg, v uint32) { a.emit(0x81, 0xc0|byte(op)<<3|byte(d)); a.imm(v) }
func (a *asm) test(r reg)                     { a.emit(0x85, 0xc0|byte(r)<<3|byte(r)) }
func (a *asm) mulI(d reg, v uint32)           { a.emit(0x69, 0xc0|byte(d)<<3|byte(d)); a.imm(v) }
func (a *asm) shl(d reg, n byte)              { a.emit(0xc1, 0xe0|byte(d), n) }
func (a *asm) shr(d reg, n byte)              { a.emit(0xc1, 0xe8|byte(d), n) }
func (a *asm) div(by reg)                     { a.emit(0xf7, 0xf0|byte(by)) } // edx:eax / by
func (a *asm) inc(d reg)                      { a.emit(0x40 + byte(d)) }
func (a *asm) dec(d reg)                      { a.emit(0x48 + byte(d)) }

// Flow.

func (a *asm) jmp(label string)         { a.emit(0xe9); a.ref(label, true) }
func (a *asm) jcc(c cond, label string) { a.emit(0x0f, 0x80|byte(c)); a.ref(label, true) }
func (a *asm) call(label string)        { a.emit(0xe8); a.ref(label, true) }
func (a *asm) ret()                     { a.emit(0xc3) }
func (a *asm) push(r reg)               { a.emit(0x50 + byte(r)) }
func (a *asm) pop(r reg)                { a.emit(0x58 + byte(r)) }
func (a *asm) pushAll()                 { a.emit(0x60) }
func (a *asm) popAll()                  { a.emit(0x61) }

// Ports: the port number is in dx, the value in al, ax or eax.

func (a *asm) in8()   { a.emit(0xec) }
func (a *asm) in16()  { a.emit(0x66, 0xed) }
func (a *asm) in32()  { a.emit(0xed) }
func (a *asm) out8()  { a.emit(0xee) }
func (a *asm) out16() { a.emit(0x66, 0xef) }
func (a *asm) out32() { a.emit(0xef) }

// outI writes a constant byte to a constant port.
func (a *asm) outI(port uint16, v byte) {
	a.movI(edx, uint32(port))
	a.movI(eax, uint32(v))
	a.out8()
}

// Strings of dwords at esi, edi, count in ecx, upwards.

func (a *asm) repStore()      { a.emit(0xf3, 0xab) } // rep stosd
func (a *asm) repeatCompare() { a.emit(0xf3, 0xa7) } // repe cmpsd
func (a *asm) repeatScan()    { a.emit(0xf3, 0xaf) } // repe scasd

// Processor control.

func (a *asm) cli()                   { a.emit(0xfa) }
func (a *asm) sti()                   { a.emit(0xfb) }
func (a *asm) hlt()                   { a.emit(0xf4) }
func (a *asm) iret()                  { a.emit(0xcf) }
func (a *asm) lidtLabel(label string) { a.emit(0x0f, 0x01, 0x1d); a.ref(label, false) }
