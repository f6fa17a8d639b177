package scsi

// Operation codes (SPC-4 annex E.3, SBC-3 §5).
const (
	opTestUnitReady    = 0x00
	opRequestSense     = 0x03
	opRead6            = 0x08
	opWrite6           = 0x0a
	opInquiry          = 0x12
	opModeSelect6      = 0x15
	opReserve6         = 0x16
	opRelease6         = 0x17
	opModeSense6       = 0x1a
	opStartStop        = 0x1b
	opPreventAllow     = 0x1e
	opReadCapacity10   = 0x25
	opRead10           = 0x28
	opWrite10          = 0x2a
	opWriteVerify10    = 0x2e
	opVerify10         = 0x2f
	opPrefetch10       = 0x34
	opSyncCache10      = 0x35
	opReadDefect10     = 0x37
	opWriteSame10      = 0x41
	opUnmap            = 0x42
	opLogSense         = 0x4d
	opModeSelect10     = 0x55
	opModeSense10      = 0x5a
	opReserveIn        = 0x5e
	opReserveOut       = 0x5f
	opExtendedCopy     = 0x83
	opReceiveCopy      = 0x84
	opRead16           = 0x88
	opCompareAndWrite  = 0x89
	opWrite16          = 0x8a
	opOrWrite16        = 0x8b
	opWriteVerify16    = 0x8e
	opVerify16         = 0x8f
	opPrefetch16       = 0x90
	opSyncCache16      = 0x91
	opWriteSame16      = 0x93
	opWriteAtomic16    = 0x9c
	opServiceIn16      = 0x9e
	opReportLUNs       = 0xa0
	opMaintenanceIn    = 0xa3
	opRead12           = 0xa8
	opWrite12          = 0xaa
	opWriteVerify12    = 0xae
	opVerify12         = 0xaf
	opReadDefect12     = 0xb7
	actionCapacity16   = 0x10
	actionLBAStatus    = 0x12
	actionPortGroups   = 0x0a
	actionOpcodes      = 0x0c
	actionTaskFunction = 0x0d
)

// commands builds the table of a unit. The second argument of add is the CDB
// usage data: the opcode and, for every further byte, the bits that may be set.
func commands(opt *Options) *table {
	t := &table{}
	t.addPrimary()
	t.addReads()
	t.addWrites()
	if opt.Atomic >= int64(opt.BlockSize) {
		t.add(&command{op: opWriteAtomic16, action: -1, name: "WRITE ATOMIC(16)", access: accessWrite, medium: true, change: true,
			begin: beginWriteAtomic, run: runWrite}, "9c18ffffffffffffffff0000ffff3f00")
	}
	t.addReservations()
	t.addCopies()
	return t
}

func (t *table) addPrimary() {
	t.add(&command{op: opTestUnitReady, action: -1, name: "TEST UNIT READY", access: accessAny, medium: true,
		begin: beginNothing, run: runNothing}, "000000000000")
	t.add(&command{op: opRequestSense, action: -1, name: "REQUEST SENSE", silent: true,
		begin: beginNothing, run: requestSense}, "03010000ff00")
	t.add(&command{op: opInquiry, action: -1, name: "INQUIRY", silent: true,
		begin: beginInquiry, run: inquire}, "1201ffffff00")
	t.add(&command{op: opModeSense6, action: -1, name: "MODE SENSE(6)", access: accessRead,
		begin: beginNothing, run: modeSense}, "1a08ffffff00")
	t.add(&command{op: opModeSense10, action: -1, name: "MODE SENSE(10)", access: accessRead,
		begin: beginNothing, run: modeSense}, "5a18ffff000000ffff00")
	t.add(&command{op: opModeSelect6, action: -1, name: "MODE SELECT(6)", access: accessWrite,
		begin: beginModeSelect, run: modeSelect}, "15110000ff00")
	t.add(&command{op: opModeSelect10, action: -1, name: "MODE SELECT(10)", access: accessWrite,
		begin: beginModeSelect, run: modeSelect}, "55110000000000ffff00")
	t.add(&command{op: opLogSense, action: -1, name: "LOG SENSE", access: accessAny,
		begin: beginNothing, run: logSense}, "4d00ffff000000ffff00")
	t.add(&command{op: opReportLUNs, action: -1, name: "REPORT LUNS", silent: true,
		begin: beginReportLUNs, run: reportLUNs}, "a000ff000000ffffffff0000")
	t.add(&command{op: opMaintenanceIn, action: actionPortGroups, name: "REPORT TARGET PORT GROUPS", access: accessAny,
		begin: beginPortGroups, run: reportPortGroups}, "a3ea00000000ffffffff0000")
	t.add(&command{op: opMaintenanceIn, action: actionOpcodes, name: "REPORT SUPPORTED OPERATION CODES", access: accessAny,
		begin: beginOpcodes, run: reportOpcodes}, "a30c87ffffffffffffff0000")
	t.add(&command{op: opMaintenanceIn, action: actionTaskFunction, name: "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", access: accessAny,
		begin: beginNothing, run: reportTaskFunctions}, "a30d80000000ffffffff0000")
	t.add(&command{op: opStartStop, action: -1, name: "START STOP UNIT", access: accessWrite,
		begin: beginStartStop, run: startStop}, "1b01000ff700")
	t.add(&command{op: opPreventAllow, action: -1, name: "PREVENT ALLOW MEDIUM REMOVAL", access: accessAny,
		begin: beginPrevent, run: preventAllow}, "1e0000000300")
}

func (t *table) addReads() {
	reads := []struct {
		op    byte
		name  string
		usage string
	}{
		{opRead6, "READ(6)", "081fffffff00"},
		{opRead10, "READ(10)", "281cffffffff3fffff00"},
		{opRead12, "READ(12)", "a81cffffffffffffffff3f00"},
		{opRead16, "READ(16)", "881cffffffffffffffffffffffff3f00"},
	}
	for _, r := range reads {
		t.add(&command{op: r.op, action: -1, name: r.name, access: accessRead, medium: true, begin: beginRead, run: runRead}, r.usage)
	}
	for _, v := range []struct {
		op    byte
		name  string
		usage string
	}{
		{opVerify10, "VERIFY(10)", "2f16ffffffff3fffff00"},
		{opVerify12, "VERIFY(12)", "af16ffffffffffffffff3f00"},
		{opVerify16, "VERIFY(16)", "8f16ffffffffffffffffffffffff3f00"},
	} {
		t.add(&command{op: v.op, action: -1, name: v.name, access: accessRead, medium: true, begin: beginVerify, run: runVerify}, v.usage)
	}
	t.add(&command{op: opPrefetch10, action: -1, name: "PRE-FETCH(10)", access: accessRead, medium: true,
		begin: beginPrefetch, run: runPrefetch}, "3402ffffffff3fffff00")
	t.add(&command{op: opPrefetch16, action: -1, name: "PRE-FETCH(16)", access: accessRead, medium: true,
		begin: beginPrefetch, run: runPrefetch}, "9002ffffffffffffffffffffffff3f00")
	t.add(&command{op: opReadCapacity10, action: -1, name: "READ CAPACITY(10)", access: accessAny, medium: true,
		begin: beginCapacity10, run: readCapacity10}, "2500ffffffff00000100")
	t.add(&command{op: opServiceIn16, action: actionCapacity16, name: "READ CAPACITY(16)", access: accessAny, medium: true,
		begin: beginCapacity16, run: readCapacity16}, "9e10ffffffffffffffffffffffff0100")
	t.add(&command{op: opServiceIn16, action: actionLBAStatus, name: "GET LBA STATUS", access: accessRead, medium: true,
		begin: beginLBAStatus, run: lbaStatus}, "9e12ffffffffffffffffffffffff0000")
	t.add(&command{op: opReadDefect10, action: -1, name: "READ DEFECT DATA(10)", access: accessRead, medium: true,
		begin: beginNothing, run: readDefects10}, "37001f00000000ffff00")
	t.add(&command{op: opReadDefect12, action: -1, name: "READ DEFECT DATA(12)", access: accessRead, medium: true,
		begin: beginNothing, run: readDefects12}, "b71fffffffffffffffff0000")
}

func (t *table) addWrites() {
	w := func(op byte, name, usage string, begin func(*Task) *Sense, run func(*Task)) {
		t.add(&command{op: op, action: -1, name: name, access: accessWrite, medium: true, change: true, begin: begin, run: run}, usage)
	}
	w(opWrite6, "WRITE(6)", "0a1fffffff00", beginWrite, runWrite)
	w(opWrite10, "WRITE(10)", "2a18ffffffff3fffff00", beginWrite, runWrite)
	w(opWrite12, "WRITE(12)", "aa18ffffffffffffffff3f00", beginWrite, runWrite)
	w(opWrite16, "WRITE(16)", "8a18ffffffffffffffffffffffff3f00", beginWrite, runWrite)
	w(opWriteVerify10, "WRITE AND VERIFY(10)", "2e16ffffffff3fffff00", beginWriteVerify, runWriteVerify)
	w(opWriteVerify12, "WRITE AND VERIFY(12)", "ae16ffffffffffffffff3f00", beginWriteVerify, runWriteVerify)
	w(opWriteVerify16, "WRITE AND VERIFY(16)", "8e16ffffffffffffffffffffffff3f00", beginWriteVerify, runWriteVerify)
	w(opOrWrite16, "ORWRITE(16)", "8b18ffffffffffffffffffffffff3f00", beginOrWrite, runOrWrite)
	w(opCompareAndWrite, "COMPARE AND WRITE", "8918ffffffffffffffff000000ff3f00", beginCompareAndWrite, runCompareAndWrite)
	t.add(&command{op: opSyncCache10, action: -1, name: "SYNCHRONIZE CACHE(10)", access: accessWrite, medium: true, flush: true,
		begin: beginSync, run: runSync}, "3506ffffffff3fffff00")
	t.add(&command{op: opSyncCache16, action: -1, name: "SYNCHRONIZE CACHE(16)", access: accessWrite, medium: true, flush: true,
		begin: beginSync, run: runSync}, "9106ffffffffffffffffffffffff3f00")
	w(opWriteSame10, "WRITE SAME(10)", "4108ffffffff3fffff00", beginWriteSame, runWriteSame)
	w(opWriteSame16, "WRITE SAME(16)", "9309ffffffffffffffffffffffff3f00", beginWriteSame, runWriteSame)
	w(opUnmap, "UNMAP", "4200000000003fffff00", beginUnmap, runUnmap)
}
