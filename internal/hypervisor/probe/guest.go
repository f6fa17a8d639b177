package probe

import "fmt"

// Memory of the guest. It needs 8 MiB.
const (
	varIO      = 0x1000 // I/O port base of the disk
	varTicks   = 0x1004 // timer interrupts since boot
	varAvail   = 0x1008 // address of the virtqueue's available ring
	varUsed    = 0x100c // address of its used ring
	varIndex   = 0x1010 // requests made available so far
	varCounter = 0x1014 // while verifying: the highest counter seen; then the last one flushed
	varCorrupt = 0x1018 // slots found wrong
	varSlot    = 0x101c // the slot at hand
	varCount   = 0x1020 // blocks verified
	varStatus  = 0x1024 // status of the failed request
	varSlots   = 0x1028 // slots of the ring
	varSecond  = 0x102c // 1: the disk at hand is the second one
	otherIO    = 0x1030 // what varIO, varCounter and varSlots are for the disk that is not at hand
	otherCount = 0x1034 // otherIO 0: there is one disk
	otherSlots = 0x1038
	reqHeader  = 0x1100 // virtio-blk request header, 16 bytes
	reqStatus  = 0x1110 // virtio-blk status byte
	idt        = 0x2000 // 48 gates
	queue      = 0x100000
	queueSize  = 0x10000 // bytes set aside and cleared; enough for 1024 descriptors
	table      = 0x110000
	readBuffer = 0x200000
	fillBuffer = 0x300000
	readBlocks = minSlots
)

// tickHz is the rate of the timer interrupt. A request's completion is looked
// for at most once a tick, so a write and its flush take two ticks or more and
// the processor sleeps in between.
const tickHz = 200

// guest emits the 32-bit program. Calling convention of its subroutines: what
// each one says; every register may change unless it says otherwise.
type guest struct {
	*asm
	slots uint32
}

func (g *guest) program() {
	g.entry()
	g.say("probe start\n")
	g.call("find disk")
	g.storeVarI(varSlots, g.slots)
	g.storeVarI(otherSlots, SecondSlots)
	g.loadVar(eax, otherIO)
	g.test(eax)
	g.jcc(ifZero, "one disk")
	g.call("other disk")
	g.call("verify")
	g.call("other disk")
	g.jmp("verify boot disk")
	g.label("one disk")
	g.call("set up disk")
	g.label("verify boot disk")
	g.call("verify")
	g.say("probe ready\n")
	g.loop()
	g.advance()
	g.verify()
	g.checkSlot()
	g.checkHistory()
	g.fill()
	g.findDisk()
	g.otherDisk()
	g.setUpDisk()
	g.request()
	g.serial()
	g.interrupts()
}

// entry sets up segments, stack, serial port and timer.
func (g *guest) entry() {
	g.emit(0x66, 0xb8, 0x10, 0x00) // mov ax, 0x10
	g.emit(0x8e, 0xd8)             // mov ds, ax
	g.emit(0x8e, 0xc0)             // mov es, ax
	g.emit(0x8e, 0xd0)             // mov ss, ax
	g.movI(esp, bootAddress)
	g.emit(0xfc) // cld
	g.movI(edi, varIO)
	g.movI(ecx, 0x200/4)
	g.movI(eax, 0)
	g.repStore()
	g.call("set up serial")
	g.call("set up interrupts")
}

// loop writes one block per turn to each disk.
func (g *guest) loop() {
	g.label("loop")
	g.loadVar(eax, otherIO)
	g.test(eax)
	g.jcc(ifZero, "loop boot disk")
	g.call("other disk")
	g.call("advance")
	g.call("other disk")
	g.label("loop boot disk")
	g.call("advance")
	g.jmp("loop")
}

// advance writes one block to the disk at hand, flushes, and only then says so.
// A request that fails is reported and repeated after a second: the counter
// stays.
func (g *guest) advance() {
	g.label("advance")
	g.loadVar(eax, varCounter)
	g.mulI(eax, counterMix) // slot of counter+1
	g.ringSlot(eax, ecx)
	g.storeVar(varSlot, eax)
	g.mov(edx, eax)
	g.loadVar(eax, varCounter)
	g.inc(eax)
	g.call("fill")
	g.label("write again")
	g.loadVar(ebx, varSlot)
	g.aluI(opAdd, ebx, FirstBlock)
	g.shl(ebx, 3)
	g.movI(eax, blkOut)
	g.movI(esi, fillBuffer)
	g.movI(ecx, BlockSize)
	g.call("request")
	g.test(eax)
	g.jcc(ifNotZero, "write failed")
	g.call("flush")
	g.test(eax)
	g.jcc(ifNotZero, "write failed")
	g.incVar(varCounter)
	g.ifSecond(func() { g.say("second ") }, func() {})
	g.say("flushed ")
	g.sayVar(varCounter)
	g.say("\n")
	g.ret()
	g.label("write failed")
	g.failed("write")
	g.jmp("write again")
}

// ringSlot takes d modulo the ring's slots; with changes.
func (g *guest) ringSlot(d, with reg) {
	g.loadVar(with, varSlots)
	g.dec(with)
	g.alu(opAnd, d, with)
}

// ifSecond does one thing or another; eax changes.
func (g *guest) ifSecond(then, otherwise func()) {
	name := fmt.Sprintf("second %x", len(g.code))
	g.loadVar(eax, varSecond)
	g.test(eax)
	g.jcc(ifZero, name+" not")
	then()
	g.jmp(name + " end")
	g.label(name + " not")
	otherwise()
	g.label(name + " end")
}

// failed reports a failed request, whose status is in eax, and waits a second.
func (g *guest) failed(what string) {
	g.storeVar(varStatus, eax)
	g.say("probe ERROR " + what + " status ")
	g.sayVar(varStatus)
	g.say("\n")
	g.call("wait a second")
}

// verify reads every slot, then compares the set with what the counter
// implies, then flushes: what has been seen once must be there ever after.
func (g *guest) verify() {
	g.label("verify")
	g.label("next chunk")
	g.loadVar(ebx, varSlot)
	g.aluI(opAdd, ebx, FirstBlock)
	g.shl(ebx, 3)
	g.movI(eax, blkIn)
	g.movI(esi, readBuffer)
	g.movI(ecx, readBlocks*BlockSize)
	g.call("request")
	g.test(eax)
	g.jcc(ifZero, "chunk read")
	g.failed("read")
	g.jmp("next chunk")
	g.label("chunk read")
	g.movI(ebx, readBuffer)
	g.label("next slot")
	g.loadVar(edx, varSlot)
	g.push(ebx)
	g.call("check slot")
	g.pop(ebx)
	g.incVar(varSlot)
	g.aluI(opAdd, ebx, BlockSize)
	g.aluI(opCmp, ebx, readBuffer+readBlocks*BlockSize)
	g.jcc(ifBelow, "next slot")
	g.loadVar(eax, varSlot)
	g.loadVar(ecx, varSlots)
	g.alu(opCmp, eax, ecx)
	g.jcc(ifBelow, "next chunk")
	g.call("check history")
	g.loadVar(eax, varCorrupt)
	g.test(eax)
	g.jcc(ifNotZero, "halt corrupt")
	g.label("flush verified")
	g.call("flush")
	g.test(eax)
	g.jcc(ifZero, "verified")
	g.failed("flush")
	g.jmp("flush verified")
	g.label("verified")
	g.ifSecond(func() { g.say("probe second verified ") }, func() { g.say("probe boot verified ") })
	g.sayVar(varCount)
	g.say(" highest ")
	g.sayVar(varCounter)
	g.say("\n")
	g.ret()
	g.label("halt corrupt")
	g.say("probe halted corrupt ")
	g.sayVar(varCorrupt)
	g.say("\n")
	g.label("halt")
	g.cli()
	g.hlt()
	g.jmp("halt")
}

// checkSlot: the block at ebx, read from slot edx, is empty or is exactly the
// block that its counter implies. Its counter goes to the table.
func (g *guest) checkSlot() {
	g.label("check slot")
	g.load(eax, ebx, 0)
	g.test(eax)
	g.jcc(ifNotZero, "slot written")
	g.mov(edi, ebx)
	g.movI(ecx, BlockSize/4)
	g.repeatScan()
	g.movI(eax, 0)
	g.jcc(ifZero, "slot good")
	g.jmp("slot corrupt")
	g.label("slot written")
	g.load(eax, ebx, 8)
	g.test(eax)
	g.jcc(ifZero, "slot corrupt")
	g.push(eax)
	g.push(ebx)
	g.call("fill")
	g.pop(edi)
	g.movI(esi, fillBuffer)
	g.movI(ecx, BlockSize/4)
	g.repeatCompare()
	g.pop(eax)
	g.jcc(ifNotZero, "slot corrupt")
	g.loadVar(ecx, varCounter)
	g.alu(opCmp, eax, ecx)
	g.jcc(ifBelowEqual, "slot good")
	g.storeVar(varCounter, eax)
	g.label("slot good")
	g.loadVar(edx, varSlot)
	g.shl(edx, 2)
	g.store(edx, table, eax)
	g.ret()
	g.label("slot corrupt")
	g.mov(ebx, eax)
	g.incVar(varCorrupt)
	g.say("probe CORRUPT slot ")
	g.sayVar(varSlot)
	g.say(" claims ")
	g.mov(eax, ebx)
	g.call("put number")
	g.say("\n")
	g.movI(eax, 0)
	g.jmp("slot good")
}

// checkHistory walks back from the highest counter, one step for each slot:
// counter h-i must be in its slot, or nothing if i >= h.
func (g *guest) checkHistory() {
	g.label("check history")
	g.loadVar(ebx, varCounter) // ebx: h-i, wrapping below zero
	g.movI(ecx, 0)             // ecx: i
	g.label("history step")
	g.mov(edx, ebx)
	g.dec(edx)
	g.mulI(edx, counterMix)
	g.ringSlot(edx, esi)
	g.storeVar(varSlot, edx)
	g.shl(edx, 2)
	g.load(eax, edx, table)
	g.mov(esi, ebx)
	g.loadVar(edx, varCounter)
	g.alu(opCmp, edx, ecx)
	g.jcc(ifAbove, "history expects a block")
	g.movI(esi, 0)
	g.jmp("history compare")
	g.label("history expects a block")
	g.incVar(varCount)
	g.label("history compare")
	g.alu(opCmp, eax, esi)
	g.jcc(ifZero, "history next")
	g.incVar(varCorrupt)
	g.pushAll()
	g.mov(ebx, eax)
	g.mov(edi, esi)
	g.say("probe CORRUPT slot ")
	g.sayVar(varSlot)
	g.say(" holds ")
	g.mov(eax, ebx)
	g.call("put number")
	g.say(" wanted ")
	g.mov(eax, edi)
	g.call("put number")
	g.say("\n")
	g.popAll()
	g.label("history next")
	g.dec(ebx)
	g.inc(ecx)
	g.loadVar(esi, varSlots)
	g.alu(opCmp, ecx, esi)
	g.jcc(ifBelow, "history step")
	g.ret()
}

// fill makes the block of counter eax for slot edx in fillBuffer: FillBlock.
func (g *guest) fill() {
	const words = fillBuffer + headWords*4
	g.label("fill")
	le := []byte(Magic)
	g.storeVarI(fillBuffer, uint32(le[0])|uint32(le[1])<<8|uint32(le[2])<<16|uint32(le[3])<<24)
	g.storeVarI(fillBuffer+4, uint32(le[4])|uint32(le[5])<<8|uint32(le[6])<<16|uint32(le[7])<<24)
	g.storeVar(fillBuffer+8, eax)
	g.storeVar(fillBuffer+12, edx)
	g.storeVarI(fillBuffer+16, 0)
	g.storeVarI(fillBuffer+20, 0)
	g.mulI(eax, counterMix)
	g.mulI(edx, slotMix)
	g.alu(opXor, eax, edx)
	g.jcc(ifNotZero, "fill seeded")
	g.inc(eax)
	g.label("fill seeded")
	g.mov(ebx, eax) // ebx: the generator's state
	g.movI(eax, hashBasis)
	g.movI(edi, fillBuffer)
	g.label("fill head")
	g.load(edx, edi, 0)
	g.alu(opXor, eax, edx)
	g.mulI(eax, hashPrime)
	g.aluI(opAdd, edi, 4)
	g.aluI(opCmp, edi, words)
	g.jcc(ifBelow, "fill head")
	g.label("fill word")
	for _, step := range []func(){func() { g.shl(edx, 13) }, func() { g.shr(edx, 17) }, func() { g.shl(edx, 5) }} {
		g.mov(edx, ebx)
		step()
		g.alu(opXor, ebx, edx)
	}
	g.store(edi, 0, ebx)
	g.alu(opXor, eax, ebx)
	g.mulI(eax, hashPrime)
	g.aluI(opAdd, edi, 4)
	g.aluI(opCmp, edi, fillBuffer+BlockSize)
	g.jcc(ifBelow, "fill word")
	g.storeVar(fillBuffer+sumWord*4, eax)
	g.ret()
}
