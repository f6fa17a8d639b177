package probe

import "fmt"

// Request types of virtio-blk (VIRTIO 1.2, 5.2.6).
const (
	blkIn    = 0
	blkOut   = 1
	blkFlush = 4
)

// Registers of the legacy virtio PCI interface, relative to BAR 0
// (VIRTIO 1.2, 4.1.4.10).
const (
	regDeviceFeatures = 0x00
	regDriverFeatures = 0x04
	regQueueAddress   = 0x08
	regQueueSize      = 0x0c
	regQueueSelect    = 0x0e
	regQueueNotify    = 0x10
	regStatus         = 0x12
)

const featureFlush = 1 << 9 // VIRTIO_BLK_F_FLUSH

// Descriptor flags, joined with the index of the next one in the upper half.
const (
	descNext  = 1
	descWrite = 2
)

const (
	pciAddress = 0xcf8
	pciData    = 0xcfc
)

// virtioBlk is a transitional virtio-blk function.
const virtioBlk = 0x10011af4

// findDisk looks on PCI bus 0 for the first transitional virtio-blk function
// (1af4:1001), and for another one at the second disk's place.
func (g *guest) findDisk() {
	g.label("find disk")
	g.movI(ebx, 0x80000000)
	g.label("next device")
	g.pciSelect(0)
	g.in32()
	g.aluI(opCmp, eax, virtioBlk)
	g.jcc(ifZero, "disk found")
	g.aluI(opAdd, ebx, 0x800)
	g.aluI(opCmp, ebx, 0x80010000)
	g.jcc(ifBelow, "next device")
	g.say("probe ERROR no virtio disk\n")
	g.jmp("halt")
	g.label("disk found")
	g.call("enable disk")
	g.aluI(opAdd, ebx, 0x800*SecondDisk)
	g.pciSelect(0)
	g.in32()
	g.aluI(opCmp, eax, virtioBlk)
	g.jcc(ifNotZero, "no second disk")
	g.loadVar(eax, varIO)
	g.push(eax)
	g.call("enable disk")
	g.loadVar(eax, varIO)
	g.storeVar(otherIO, eax)
	g.pop(eax)
	g.storeVar(varIO, eax)
	g.label("no second disk")
	g.ret()

	g.label("enable disk") // function ebx: its ports and bus mastering; keeps ebx
	g.pciSelect(4)
	g.in32()
	g.aluI(opAnd, eax, 0xffff) // the status half is write-one-to-clear
	g.aluI(opOr, eax, 5)
	g.out32()
	g.pciSelect(0x10)
	g.in32()
	g.aluI(opAnd, eax, 0xfffc)
	g.storeVar(varIO, eax)
	g.ret()
}

// pciSelect addresses a configuration register of function ebx; dx becomes the
// data port.
func (g *guest) pciSelect(register uint32) {
	g.mov(eax, ebx)
	g.aluI(opOr, eax, register)
	g.movI(edx, pciAddress)
	g.out32()
	g.movI(edx, pciData)
}

// port puts the address of a virtio register in dx.
func (g *guest) port(register uint32) {
	g.loadVar(edx, varIO)
	g.aluI(opAdd, edx, register)
}

func (g *guest) setStatus(v uint32) {
	g.port(regStatus)
	g.movI(eax, v)
	g.out8()
}

// otherDisk takes the other disk in hand. It is set up anew, as the memory for
// queues is shared: nothing is under way at either.
func (g *guest) otherDisk() {
	g.label("other disk")
	for _, pair := range [][2]uint32{{varIO, otherIO}, {varCounter, otherCount}, {varSlots, otherSlots}} {
		g.loadVar(eax, pair[0])
		g.loadVar(ecx, pair[1])
		g.storeVar(pair[0], ecx)
		g.storeVar(pair[1], eax)
	}
	g.loadVar(eax, varSecond)
	g.aluI(opXor, eax, 1)
	g.storeVar(varSecond, eax)
	g.storeVarI(varSlot, 0)
	g.storeVarI(varCount, 0)
	g.jmp("set up disk")
}

// setUpDisk negotiates FLUSH and gives the device its only queue.
func (g *guest) setUpDisk() {
	g.label("set up disk")
	g.storeVarI(varIndex, 0)
	g.setStatus(0)
	g.setStatus(1) // acknowledged
	g.setStatus(3) // and we have a driver
	g.port(regDeviceFeatures)
	g.in32()
	g.aluI(opAnd, eax, featureFlush)
	g.jcc(ifNotZero, "can flush")
	g.say("probe ERROR disk cannot flush\n")
	g.jmp("halt")
	g.label("can flush")
	g.port(regDriverFeatures)
	g.out32()
	g.movI(edi, queue)
	g.movI(ecx, queueSize/4)
	g.movI(eax, 0)
	g.repStore()
	g.port(regQueueSelect)
	g.movI(eax, 0)
	g.out16()
	g.port(regQueueSize)
	g.movI(eax, 0)
	g.in16()
	g.aluI(opAnd, eax, 0xffff)
	g.jcc(ifZero, "queue bad")
	g.aluI(opCmp, eax, 1024)
	g.jcc(ifBelowEqual, "queue fits")
	g.label("queue bad")
	g.say("probe ERROR queue size\n")
	g.jmp("halt")
	g.label("queue fits")
	g.mov(ecx, eax)
	g.shl(ecx, 4)
	g.aluI(opAdd, ecx, queue)
	g.storeVar(varAvail, ecx) // behind the descriptors, 16 bytes each
	g.shl(eax, 1)
	g.alu(opAdd, ecx, eax)
	g.aluI(opAdd, ecx, 6+4095)
	g.aluI(opAnd, ecx, 0xfffff000)
	g.storeVar(varUsed, ecx) // on the next page behind the available ring
	g.loadVar(ecx, varAvail)
	g.movI(eax, 1)
	g.store16(ecx, 0, eax) // no interrupts: the timer wakes us
	g.port(regQueueAddress)
	g.movI(eax, queue>>12)
	g.out32()
	g.setStatus(7) // go
	g.ret()
}

// request does one request and returns its status in eax, 0 if it succeeded:
// type in eax, sector in ebx, buffer in esi, its length in ecx. "flush" is one
// without a buffer. The processor sleeps until the device has answered,
// however long that takes.
func (g *guest) request() {
	g.label("flush")
	g.movI(eax, blkFlush)
	g.movI(ebx, 0)
	g.movI(ecx, 0)
	g.label("request")
	g.storeVar(reqHeader, eax)
	g.storeVarI(reqHeader+4, 0)
	g.storeVar(reqHeader+8, ebx)
	g.storeVarI(reqHeader+12, 0)
	g.storeVarI(reqStatus, 0xff)
	g.descriptor(0, reqHeader, 16, 1<<16|descNext)
	g.test(ecx)
	g.jcc(ifZero, "request without data")
	g.storeVar(queue+16, esi)
	g.storeVarI(queue+20, 0)
	g.storeVar(queue+24, ecx)
	g.storeVarI(queue+28, 2<<16|descNext)
	g.test(eax)
	g.jcc(ifNotZero, "request writes")
	g.storeVarI(queue+28, 2<<16|descNext|descWrite)
	g.label("request writes")
	g.descriptor(2, reqStatus, 1, descWrite)
	g.jmp("request go")
	g.label("request without data")
	g.descriptor(1, reqStatus, 1, descWrite)
	g.label("request go")
	g.incVar(varIndex) // the ring's entries are all 0, our only head
	g.loadVar(ecx, varAvail)
	g.loadVar(eax, varIndex)
	g.store16(ecx, 2, eax)
	g.port(regQueueNotify)
	g.movI(eax, 0)
	g.out16()
	g.label("request wait")
	g.hlt()
	g.loadVar(ecx, varUsed)
	g.load16(eax, ecx, 2)
	g.loadVar(ebx, varIndex)
	g.aluI(opAnd, ebx, 0xffff)
	g.alu(opCmp, eax, ebx)
	g.jcc(ifNotZero, "request wait")
	g.loadVar(eax, reqStatus)
	g.aluI(opAnd, eax, 0xff)
	g.ret()
}

func (g *guest) descriptor(i, addr, length, flags uint32) {
	at := queue + 16*i
	g.storeVarI(at, addr)
	g.storeVarI(at+4, 0)
	g.storeVarI(at+8, length)
	g.storeVarI(at+12, flags)
}

// say prints a constant text; it keeps every register.
func (g *guest) say(text string) {
	name := fmt.Sprintf("text %x", len(g.code))
	g.pushAll()
	g.movLabel(esi, name)
	g.call("put text")
	g.popAll()
	g.jmp(name + " end")
	g.label(name)
	g.emit([]byte(text)...)
	g.emit(0)
	g.label(name + " end")
}

// sayVar prints a variable in decimal; it keeps every register but eax.
func (g *guest) sayVar(addr uint32) {
	g.loadVar(eax, addr)
	g.call("put number")
}

// serial is COM1 at 115200 baud, by polling.
func (g *guest) serial() {
	g.label("set up serial")
	for _, w := range [][2]uint16{{0x3f9, 0}, {0x3fb, 0x80}, {0x3f8, 1}, {0x3f9, 0}, {0x3fb, 3}, {0x3fa, 7}, {0x3fc, 3}} {
		g.outI(w[0], byte(w[1]))
	}
	g.ret()

	g.label("put text") // esi: text, ended by 0
	g.load8(eax, esi, 0)
	g.test(eax)
	g.jcc(ifZero, "put text end")
	g.call("put char")
	g.inc(esi)
	g.jmp("put text")
	g.label("put text end")
	g.ret()

	g.label("put char") // eax
	g.push(eax)
	g.movI(edx, 0x3fd)
	g.label("put char wait")
	g.in8()
	g.aluI(opAnd, eax, 0x20) // transmitter empty
	g.jcc(ifZero, "put char wait")
	g.pop(eax)
	g.movI(edx, 0x3f8)
	g.out8()
	g.ret()

	g.label("put number") // eax; keeps all
	g.pushAll()
	g.movI(ecx, 10)
	g.movI(ebx, 0)
	g.label("put number digit")
	g.movI(edx, 0)
	g.div(ecx)
	g.push(edx)
	g.inc(ebx)
	g.test(eax)
	g.jcc(ifNotZero, "put number digit")
	g.label("put number out")
	g.pop(eax)
	g.aluI(opAdd, eax, '0')
	g.call("put char")
	g.dec(ebx)
	g.jcc(ifNotZero, "put number out")
	g.popAll()
	g.ret()
}

// interrupts moves the interrupt controllers' vectors to 20h, lets only the
// timer through, at tickHz, and reports any exception as a failure of the
// guest itself.
func (g *guest) interrupts() {
	const divisor = 1193182 / tickHz
	g.label("set up interrupts")
	for _, w := range [][2]uint16{
		{0x20, 0x11}, {0xa0, 0x11}, {0x21, 0x20}, {0xa1, 0x28}, {0x21, 4}, {0xa1, 2}, {0x21, 1}, {0xa1, 1},
		{0x21, 0xfe}, {0xa1, 0xff},
		{0x43, 0x34}, {0x40, divisor & 0xff}, {0x40, divisor >> 8},
	} {
		g.outI(w[0], byte(w[1]))
	}
	g.movI(edi, idt)
	g.movLabel(ebx, "exception")
	g.label("gate")
	g.aluI(opCmp, edi, idt+0x20*8)
	g.jcc(ifNotZero, "gate other")
	g.movLabel(ebx, "timer")
	g.label("gate other")
	g.mov(eax, ebx) // the handlers lie below 64 KiB
	g.aluI(opOr, eax, 0x08<<16)
	g.store(edi, 0, eax)
	g.movI(eax, 0x8e00)
	g.store(edi, 4, eax)
	g.aluI(opAdd, edi, 8)
	g.aluI(opCmp, edi, idt+0x30*8)
	g.jcc(ifBelow, "gate")
	g.lidtLabel("idt register")
	g.sti()
	g.ret()
	g.label("idt register")
	g.emit((0x30*8-1)&0xff, (0x30*8-1)>>8)
	g.imm(idt)

	g.label("timer")
	g.push(eax)
	g.push(edx)
	g.incVar(varTicks)
	g.outI(0x20, 0x20)
	g.pop(edx)
	g.pop(eax)
	g.iret()

	g.label("exception")
	g.say("probe ERROR exception\n")
	g.jmp("halt")

	g.label("wait a second")
	g.loadVar(ebx, varTicks)
	g.aluI(opAdd, ebx, tickHz)
	g.label("wait tick")
	g.hlt()
	g.loadVar(eax, varTicks)
	g.alu(opCmp, eax, ebx)
	g.jcc(ifBelow, "wait tick")
	g.ret()
}
